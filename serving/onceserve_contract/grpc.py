"""The port of a model server for gRPC."""

PORT = 8081
PORT_NAME = "grpc"
