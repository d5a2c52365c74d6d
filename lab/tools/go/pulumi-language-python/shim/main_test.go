package main

import (
	"context"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// upstream answers as the Python language host does.
type upstream struct {
	pulumirpc.UnimplementedLanguageRuntimeServer
	ran chan *pulumirpc.RunPluginRequest
}

func (u *upstream) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: "1.2.3"}, nil
}

func (u *upstream) RunPlugin(asked *pulumirpc.RunPluginRequest, out pulumirpc.LanguageRuntime_RunPluginServer) error {
	u.ran <- asked
	for _, text := range []string{"4", "2"} {
		if err := out.Send(&pulumirpc.RunPluginResponse{Output: &pulumirpc.RunPluginResponse_Stdout{Stdout: []byte(text)}}); err != nil {
			return err
		}
	}
	return nil
}

// listen serves until the end of the test; the address.
func listen(t *testing.T, server *grpc.Server) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// through is a client of the shim in front of the upstream.
func through(t *testing.T, behind *upstream) pulumirpc.LanguageRuntimeClient {
	t.Helper()
	server := grpc.NewServer()
	pulumirpc.RegisterLanguageRuntimeServer(server, behind)
	behindIt, err := dial(listen(t, server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = behindIt.Close() })
	address := listen(t, newServer(behindIt))
	client, err := grpc.Dial(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return pulumirpc.NewLanguageRuntimeClient(client)
}

// asked is a request as engines make it: `info` is not known to this version of the protocol.
func asked(t *testing.T, folder string) *pulumirpc.RunPluginRequest {
	t.Helper()
	inner := protowire.AppendTag(nil, programDirectory, protowire.BytesType)
	inner = protowire.AppendString(inner, folder)
	unknown := protowire.AppendTag(nil, info, protowire.BytesType)
	request := &pulumirpc.RunPluginRequest{Pwd: "/project", Args: []string{"127.0.0.1:1"}, Env: []string{"A=b"}}
	request.ProtoReflect().SetUnknown(protowire.AppendBytes(unknown, inner))
	return request
}

func TestThePluginsFolderIsRun(t *testing.T) {
	behind := &upstream{ran: make(chan *pulumirpc.RunPluginRequest, 1)}
	stream, err := through(t, behind).RunPlugin(context.Background(), asked(t, "/policy"))
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for {
		answer, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		said += string(answer.GetStdout())
	}
	if said != "42" {
		t.Errorf("answers: %q", said)
	}
	ran := <-behind.ran
	if ran.Program != "/policy" || ran.Pwd != "/project" || ran.Args[0] != "127.0.0.1:1" || ran.Env[0] != "A=b" {
		t.Errorf("ran %v", ran)
	}
}

func TestWhatIsSetStays(t *testing.T) {
	request := asked(t, "/policy")
	request.Program = "/other"
	for _, each := range []*pulumirpc.RunPluginRequest{request, {Pwd: "/project"}} {
		encoded, err := proto.Marshal(each)
		if err != nil {
			t.Fatal(err)
		}
		if string(withProgram(encoded)) != string(encoded) {
			t.Errorf("changed %v", each)
		}
	}
	if broken := []byte{0xff}; string(withProgram(broken)) != string(broken) {
		t.Error("changed what is no message")
	}
}

func TestOtherCallsAndTheirErrorsPass(t *testing.T) {
	client := through(t, &upstream{})
	answer, err := client.GetPluginInfo(context.Background(), &emptypb.Empty{})
	if err != nil || answer.Version != "1.2.3" {
		t.Errorf("%v, %v", answer, err)
	}
	_, err = client.Run(context.Background(), &pulumirpc.RunRequest{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("%v", err)
	}
}
