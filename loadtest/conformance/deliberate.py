"""Where this project's server differs from Triton 2.51 on purpose, and why; the differential mode reads this list."""

from collections.abc import Iterator

_MEANT: tuple[tuple[str, str], ...] = (
    (
        "A request that cannot be understood is its caller's fault: 400. Triton says 500, as if it had failed itself.",
        """
        http.binary.header_length_short http.binary.header_length_long http.binary.no_header_length
        http.binary.size_negative http.binary.size_wraps http.binary.size_not_a_number http.binary.size_fraction
        http.classification.wrong http.error.content_type http.error.connection_lives
        http.refuse.not_an_object http.refuse.no_inputs http.refuse.inputs_not_a_list http.refuse.no_name
        http.refuse.no_shape http.refuse.no_datatype http.refuse.name_not_a_string http.refuse.shape_not_a_list
        http.refuse.shape_of_strings http.refuse.shape_negative http.refuse.shape_larger http.refuse.data_short
        http.refuse.data_long http.refuse.data_not_a_list http.refuse.data_null http.refuse.data_object
        http.refuse.data_string http.refuse.data_fraction http.refuse.outputs_not_a_list
        http.refuse.output_without_name http.refuse.id_not_a_string http.refuse.parameters_not_an_object
        http.refuse.parameter_an_object http.refuse.json_cut http.refuse.json_surplus
        http.refuse.json_single_quotes http.refuse.json_control http.refuse.json_garbage
        http.repository.index_broken http.refuse.shape_beyond_64_bits
        """,
    ),
    (
        "What does not hold together is refused; Triton guesses, and answers 200.",
        """
        grpc.refuse.raw_too_many http.binary.header_length_fraction http.compression.gzip_cut
        http.refuse.data_ragged http.refuse.data_out_of_range http.refuse.json_not_utf8
        """,
    ),
    (
        "Shapes are held against the data, as whole numbers, before anything is allocated; Triton's wrap, or end it.",
        """
        http.refuse.shape_gigantic http.refuse.shape_overflow
        grpc.refuse.shape_gigantic grpc.refuse.shape_overflow
        """,
    ),
    (
        "Bodies are bounded, as they come and as they unfold.",
        "http.compression.bomb http.compression.bomb_of_spaces http.framing.huge_length",
    ),
    (
        "What does not exist is NOT_FOUND, 404, whatever was asked of it; Triton has four answers.",
        """
        grpc.model.ready_unknown grpc.statistics_unknown grpc.repository.load_unknown
        grpc.refuse.version_not_a_number http.model.ready_unknown http.model.ready_unknown_version
        http.repository.load_unknown http.repository.unload_unknown http.statistics.unknown
        """,
    ),
    (
        "Health and ready calls have the bodies of the protocol's text; Triton's are empty.",
        "http.health.live_body http.health.ready_body http.model.ready_body",
    ),
    (
        "An unknown coding is refused as the caller's fault; Triton says 501.",
        "http.compression.unknown",
    ),
    (
        "A 405 has its Allow header, as HTTP asks.",
        "http.error.allow",
    ),
    (
        "Broken framing is answered with an error where it can be, before the connection closes.",
        """
        http.framing.body_cut http.framing.chunks_broken http.framing.length_and_chunks http.framing.length_negative
        http.framing.length_not_a_number http.framing.header_too_long http.framing.not_http
        """,
    ),
    (
        "Chunks may have extensions.",
        "http.framing.chunked_binary",
    ),
    (
        "A path is taken for what it means: with a slash at its end, percent-encoded.",
        "http.server.trailing_slash http.model.encoded_name",
    ),
    (
        "binary_data_output holds for listed outputs too, as its text says.",
        "http.binary.default_of_listed_outputs",
    ),
    (
        "The raw form needs one input that is not optional; Triton counts optional ones.",
        "http.binary.raw",
    ),
    (
        "An integer parameter may be signed or not.",
        "grpc.infer.integer_parameters",
    ),
    (
        "The standard health service knows its services, and reflection is there.",
        "grpc.standard_health_unknown grpc.reflection",
    ),
    (
        "gRPC's asyncio server says UNKNOWN of a message that cannot be parsed, gRPC's C++ server INTERNAL.",
        "grpc.refuse.not_a_message",
    ),
    (
        "There is no shared memory, no trace and no logging extension, and none is listed.",
        """
        grpc.shared_memory grpc.refuse.shared_memory http.extensions.shared_memory
        http.extensions.shared_memory_input http.extensions.logging http.extensions.trace
        """,
    ),
)


def _named() -> Iterator[tuple[str, str]]:
    for reason, names in _MEANT:
        for name in names.split():
            yield name, reason


DELIBERATE: dict[str, str] = dict(_named())
"""The reason by the name of the check."""
