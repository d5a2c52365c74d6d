// Command helloworld answers like Istio's sample of that name: GET /hello on port 5000 gives
// `Hello version: v1, instance: <host>`. GET /headers gives the request's headers as JSON, so that a test can see what
// the sidecar added (X-Forwarded-Client-Cert names the caller). SERVICE_VERSION and HOSTNAME set the two words, PORT the port.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	host, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	hello := fmt.Sprintf("Hello version: %s, instance: %s\n", env("SERVICE_VERSION", "v1"), env("HOSTNAME", host))
	server := &http.Server{
		Addr:              net.JoinHostPort("", env("PORT", "5000")),
		Handler:           handler(hello),
		ReadHeaderTimeout: 10 * time.Second,
	}
	if err := serve(server); err != nil {
		log.Fatal(err)
	}
}

func env(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}

func handler(hello string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, hello)
	})
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "Helloworld is healthy")
	})
	mux.HandleFunc("GET /headers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(r.Header); err != nil {
			log.Print(err)
		}
	})
	return mux
}

// serve runs until SIGTERM or SIGINT, then lets requests in flight end.
func serve(server *http.Server) error {
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-stop.Done():
	}
	deadline, cancelDeadline := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancelDeadline()
	if err := server.Shutdown(deadline); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return server.Close()
}
