// Only the newest question counts: a newer one cancels those before it, whose answers never arrive.

export class Newest {
  #controller = null;

  /** Whether a question is open. */
  get isBusy() {
    return this.#controller !== null;
  }

  /**
   * Run `ask(signal)`; return its answer, or undefined once a newer question has replaced it.
   * Throws what `ask` throws, unless it was replaced.
   */
  async run(ask) {
    this.cancel();
    const controller = new AbortController();
    this.#controller = controller;
    try {
      const answer = await ask(controller.signal);
      return controller.signal.aborted ? undefined : answer;
    } catch (error) {
      if (controller.signal.aborted) return undefined;
      throw error;
    } finally {
      if (this.#controller === controller) this.#controller = null;
    }
  }

  cancel() {
    this.#controller?.abort();
    this.#controller = null;
  }
}
