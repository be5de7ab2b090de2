// What went wrong, what the server said of it, and the way out.

import { useKey } from "./api.js";
import { byId } from "./dom.js";

const RETRY_S = 3;

const TITLES = {
  0: "The server does not answer",
  400: "The server did not understand this",
  401: "The server asks for an API key",
  403: "The server does not allow this",
  404: "This model is not served any more",
  413: "This photo is too large",
  415: "This file is not a picture that the server can read",
  429: "The quota is used up for now",
  503: "The server cannot take this now",
  504: "The answer would have come too late",
};
const WANTS_A_KEY = 401;
const ABOUT_THE_FILE = new Set([413, 415]);

/** One notice at a time; a good answer takes it away. */
export class Notice {
  #timer = 0;
  #act = () => {};

  constructor() {
    byId("notice-act").addEventListener("click", () => this.#run());
    byId("notice-close").addEventListener("click", () => this.clear());
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      useKey(byId("key").value.trim());
      this.#run();
    });
  }

  get isShown() {
    return !byId("notice").hidden;
  }

  /** Show an error. `retry` asks again; `choose` opens the file dialogue, for errors that another file mends. */
  show(error, { retry, choose }) {
    clearTimeout(this.#timer);
    const isAboutTheFile = ABOUT_THE_FILE.has(error.status);
    byId("notice-title").textContent = TITLES[error.status] ?? "The server failed";
    byId("notice-text").textContent =
      error.status === 0 ? "It may have stopped, or the network is gone." : `The server says: ${error.message}.`;
    byId("key-form").hidden = error.status !== WANTS_A_KEY;
    byId("notice-actions").hidden = error.status === WANTS_A_KEY;
    byId("notice").hidden = false;
    this.#act = isAboutTheFile ? choose : retry;
    if (isAboutTheFile) byId("notice-act").textContent = "Choose another photo";
    else this.#countDown(error.status === 0 ? RETRY_S : error.retryAfterS);
  }

  clear() {
    clearTimeout(this.#timer);
    byId("notice").hidden = true;
  }

  /** Ask again by itself once the time that the server named is over. */
  #countDown(seconds) {
    const button = byId("notice-act");
    if (seconds === null) {
      button.textContent = "Try again";
    } else {
      const left = Math.max(1, Math.ceil(seconds));
      button.textContent = `Try again (in ${left} s)`;
      this.#timer = setTimeout(() => (left === 1 ? this.#run() : this.#countDown(left - 1)), 1000);
    }
  }

  #run() {
    clearTimeout(this.#timer);
    byId("notice-act").textContent = "Trying again";
    this.#act();
  }
}
