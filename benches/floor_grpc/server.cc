// The lower bound of a gRPC call in C++: a synchronous service on gRPC's C++ library, the style TensorFlow Serving is
// written in, which reads the request and answers the same bytes every time.
//
//   floor_grpc REPLY_FILE
//
// Listens on a free port of 127.0.0.1, which it prints, and runs until it is killed.

#include <grpcpp/grpcpp.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>

#include "payload.grpc.pb.h"

namespace {

using tensorflow::serving::Payload;
using tensorflow::serving::PredictionService;

class Echo final : public PredictionService::Service {
 public:
  explicit Echo(const std::string& reply) : parsed_(reply_.ParseFromString(reply)) {}

  bool parsed() const { return parsed_; }

  grpc::Status Predict(grpc::ServerContext*, const Payload*, Payload* reply) override {
    *reply = reply_;
    return grpc::Status::OK;
  }

 private:
  Payload reply_;
  bool parsed_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: floor_grpc REPLY_FILE\n";
    return 2;
  }
  std::ifstream file(argv[1], std::ios::binary);
  const std::string reply{std::istreambuf_iterator<char>(file), {}};
  Echo echo(reply);
  if (!file || !echo.parsed()) {
    std::cerr << argv[1] << " is not a reply\n";
    return 1;
  }
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(-1);
  builder.SetMaxSendMessageSize(-1);
  builder.RegisterService(&echo);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    std::cerr << "cannot listen on 127.0.0.1\n";
    return 1;
  }
  std::cout << port << std::endl;
  server->Wait();
}
