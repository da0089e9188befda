import com.google.protobuf.ByteString;
import inference.GRPCInferenceServiceGrpc;
import inference.GRPCInferenceServiceGrpc.GRPCInferenceServiceBlockingStub;
import inference.GrpcService.ModelInferRequest;
import inference.GrpcService.ModelInferResponse;
import inference.GrpcService.ModelMetadataRequest;
import inference.GrpcService.ServerReadyRequest;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.StatusRuntimeException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/** The Open Inference Protocol over gRPC, with stubs made of the protos: java -jar client.jar HOST:PORT */
public final class Client {
  private static ModelInferResponse infer(GRPCInferenceServiceBlockingStub stub, String model) {
    ByteBuffer raw = ByteBuffer.allocate(12).order(ByteOrder.LITTLE_ENDIAN).putFloat(1).putFloat(2).putFloat(5);
    ModelInferRequest.InferInputTensor x =
        ModelInferRequest.InferInputTensor.newBuilder().setName("x").setDatatype("FP32").addShape(3).build();
    return stub.modelInfer(
        ModelInferRequest.newBuilder()
            .setModelName(model)
            .addInputs(x)
            .addRawInputContents(ByteString.copyFrom(raw.flip()))
            .build());
  }

  public static void main(String[] arguments) {
    ManagedChannel channel = ManagedChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
    GRPCInferenceServiceBlockingStub stub =
        GRPCInferenceServiceGrpc.newBlockingStub(channel).withDeadlineAfter(30, TimeUnit.SECONDS);
    boolean ready = stub.serverReady(ServerReadyRequest.getDefaultInstance()).getReady();
    String inputs =
        stub.modelMetadata(ModelMetadataRequest.newBuilder().setName("half_plus_two").build()).getInputsList().stream()
            .map(input -> '"' + input.getName() + '"')
            .collect(Collectors.joining(","));
    ByteBuffer raw =
        infer(stub, "half_plus_two").getRawOutputContents(0).asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
    List<Float> y = new ArrayList<>();
    while (raw.hasRemaining()) {
      y.add(raw.getFloat());
    }
    String missing = "OK";
    try {
      infer(stub, "none");
    } catch (StatusRuntimeException refused) {
      missing = refused.getStatus().getCode().name();
    }
    System.out.printf(
        "{\"ready\":%s,\"inputs\":[%s],\"y\":%s,\"missing\":\"%s\"}%n", ready, inputs, y, missing);
    channel.shutdownNow();
  }
}
