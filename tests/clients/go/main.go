// The Open Inference Protocol over gRPC, with stubs made of the protos: client HOST:PORT
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "servable/client/inference"
)

func infer(ctx context.Context, client pb.GRPCInferenceServiceClient, model string) (*pb.ModelInferResponse, error) {
	var raw bytes.Buffer
	if err := binary.Write(&raw, binary.LittleEndian, []float32{1, 2, 5}); err != nil {
		return nil, err
	}
	return client.ModelInfer(ctx, &pb.ModelInferRequest{
		ModelName:        model,
		Inputs:           []*pb.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: "FP32", Shape: []int64{3}}},
		RawInputContents: [][]byte{raw.Bytes()},
	})
}

func main() {
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	client := pb.NewGRPCInferenceServiceClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ready, err := client.ServerReady(ctx, &pb.ServerReadyRequest{})
	if err != nil {
		log.Fatal(err)
	}
	metadata, err := client.ModelMetadata(ctx, &pb.ModelMetadataRequest{Name: "half_plus_two"})
	if err != nil {
		log.Fatal(err)
	}
	answer, err := infer(ctx, client, "half_plus_two")
	if err != nil {
		log.Fatal(err)
	}
	y := make([]float32, len(answer.RawOutputContents[0])/4)
	if err := binary.Read(bytes.NewReader(answer.RawOutputContents[0]), binary.LittleEndian, y); err != nil {
		log.Fatal(err)
	}
	var inputs []string
	for _, input := range metadata.Inputs {
		inputs = append(inputs, input.Name)
	}
	_, err = infer(ctx, client, "none")
	names := map[string]string{"NotFound": "NOT_FOUND"}
	missing := status.Code(err).String()
	if name, known := names[missing]; known {
		missing = name
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{"ready": ready.Ready, "inputs": inputs, "y": y, "missing": missing})
}
