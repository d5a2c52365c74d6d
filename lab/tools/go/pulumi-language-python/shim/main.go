// Stands in front of Pulumi's Python language host, as the engine's `pulumi-language-python`.
//
// The host that can be had as a Go module predates RunPluginRequest.info: it runs the field `program`, which engines have left empty
// since, and Python then runs what is in the working folder, the project's own program, in place of a policy pack. So this fills
// `program` with the plugin's folder, and hands on everything else as it is, bytes for bytes.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"
)

const (
	host      = "pulumi-language-python-host"
	runPlugin = "/pulumirpc.LanguageRuntime/RunPlugin"
	// The limit of the engine's own connections: sdk/go/common/util/rpcutil.
	maxMessageBytes = 400 * 1024 * 1024
)

func main() {
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "pulumi-language-python: %v\n", err)
		os.Exit(1)
	}
}

// serve starts the host with our own arguments and passes calls on to it until it ends.
func serve(arguments []string) error {
	command, port, err := startHost(arguments)
	if err != nil {
		return err
	}
	connection, err := dial("127.0.0.1:" + port)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	asked := pass(command)
	server := newServer(connection)
	go func() { _ = server.Serve(listener) }()
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	err = command.Wait()
	server.Stop()
	if asked.Load() {
		return nil
	}
	return err
}

// dial connects to a host without knowing its messages.
func dial(address string) (*grpc.ClientConn, error) {
	return grpc.Dial(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(maxMessageBytes)))
}

// startHost starts the host that lies beside this program, and reads the port it listens on. It ends with us, however we do.
func startHost(arguments []string) (*exec.Cmd, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	command := exec.Command(filepath.Join(filepath.Dir(self), host), arguments...)
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	runtime.LockOSThread() // Pdeathsig is about the thread that starts a process
	if err := command.Start(); err != nil {
		return nil, "", err
	}
	reader := bufio.NewReader(out)
	line, err := reader.ReadString('\n')
	if err != nil {
		return nil, "", fmt.Errorf("%s ended before it said where it listens: %w", host, errors.Join(err, command.Wait()))
	}
	go func() { _, _ = io.Copy(os.Stdout, reader) }()
	return command, strings.TrimSpace(line), nil
}

// pass hands on what asks us to end, and remembers that something did.
func pass(command *exec.Cmd) *atomic.Bool {
	var asked atomic.Bool
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for each := range signals {
			asked.Store(true)
			_ = command.Process.Signal(each)
		}
	}()
	return &asked
}

// raw passes messages on without knowing what is in them.
type raw struct{}

func (raw) Marshal(message any) ([]byte, error)      { return *message.(*[]byte), nil }
func (raw) Unmarshal(data []byte, message any) error { *message.(*[]byte) = data; return nil }
func (raw) Name() string                             { return "proto" }

var _ encoding.Codec = raw{}

// newServer passes every call on over the connection.
func newServer(connection *grpc.ClientConn) *grpc.Server {
	return grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.UnknownServiceHandler(func(_ any, caller grpc.ServerStream) error { return proxy(connection, caller) }))
}

// proxy passes one call on. All calls of a language host have one request and an answer or a stream of them.
func proxy(connection *grpc.ClientConn, caller grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(caller)
	given, _ := metadata.FromIncomingContext(caller.Context())
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(caller.Context(), given))
	defer cancel()
	callee, err := connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return err
	}
	var request []byte
	if err := caller.RecvMsg(&request); err != nil {
		return err
	}
	if method == runPlugin {
		request = withProgram(request)
	}
	if err := callee.SendMsg(&request); err != nil && !errors.Is(err, io.EOF) { // at EOF RecvMsg says why
		return err
	}
	if err := callee.CloseSend(); err != nil {
		return err
	}
	for {
		var answer []byte
		err := callee.RecvMsg(&answer)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := caller.SendMsg(&answer); err != nil {
			return err
		}
	}
}
