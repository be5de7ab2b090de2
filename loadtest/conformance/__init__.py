"""A black-box conformance kit for servers of the Open Inference Protocol, over HTTP and gRPC."""
