// Command servicelb is what a ServiceLB pod of k3s runs (rancher/klipper-lb: entry): in the pod's own network namespace
// it sends what arrives on SRC_PORT to DEST_PORT of the Service's addresses, then waits to be stopped. The rules need no
// removal: they go with the namespace.
//
// Environment, set by k3s (pkg/cloudprovider/servicelb.go): SRC_PORT, SRC_RANGES, DEST_PROTO, DEST_PORT, DEST_IPS.
package main

import (
	"fmt"
	"log"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	rules, err := plan(os.Getenv)
	if err != nil {
		log.Fatal(err)
	}
	for _, rule := range rules {
		if err := apply(rule); err != nil {
			log.Fatal(err)
		}
		log.Print(rule)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
}

// rule is one iptables or ip6tables command.
type rule struct {
	ipv6 bool
	args []string
}

func (r rule) String() string {
	if r.ipv6 {
		return "ip6tables " + strings.Join(r.args, " ")
	}
	return "iptables " + strings.Join(r.args, " ")
}

// plan turns the environment into rules, in the order in which they are to be added.
func plan(env func(string) string) ([]rule, error) {
	proto := strings.ToLower(env("DEST_PROTO"))
	source, destination := env("SRC_PORT"), env("DEST_PORT")
	if proto == "" || source == "" || destination == "" || env("DEST_IPS") == "" {
		return nil, fmt.Errorf("SRC_PORT, DEST_PROTO, DEST_PORT and DEST_IPS must be set")
	}
	var rules []rule
	for _, text := range list(env("SRC_RANGES")) {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("SRC_RANGES: %w", err)
		}
		rules = append(rules, newRule(prefix.Addr(),
			"-t", "filter", "-I", "FORWARD", "-s", prefix.String(), "-p", proto, "--dport", destination, "-j", "ACCEPT"))
	}
	for _, text := range list(env("DEST_IPS")) {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("DEST_IPS: %w", err)
		}
		target := netip.PrefixFrom(address, address.BitLen()).String()
		rules = append(rules,
			newRule(address, "-t", "filter", "-A", "FORWARD", "-d", target, "-p", proto, "--dport", destination, "-j", "DROP"),
			newRule(address, "-t", "nat", "-I", "PREROUTING", "-p", proto, "--dport", source,
				"-j", "DNAT", "--to", joinPort(address, destination)),
			newRule(address, "-t", "nat", "-I", "POSTROUTING", "-d", target, "-p", proto, "-j", "MASQUERADE"))
	}
	return rules, nil
}

func newRule(address netip.Addr, args ...string) rule {
	return rule{ipv6: address.Is6(), args: args}
}

func joinPort(address netip.Addr, port string) string {
	if address.Is6() {
		return "[" + address.String() + "]:" + port
	}
	return address.String() + ":" + port
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// apply adds a rule with nftables, or with the legacy tables on a kernel without nftables' compatibility layer. Both may
// be used one after the other: the kernel runs the rules of both.
func apply(r rule) error {
	var failures []string
	for _, variant := range []string{"nft", "legacy"} {
		command := "iptables-" + variant
		if r.ipv6 {
			command = "ip6tables-" + variant
		}
		// -w: the pod has one container per port, and they share the namespace and its lock
		output, err := exec.Command(command, append([]string{"-w"}, r.args...)...).CombinedOutput()
		if err == nil {
			return nil
		}
		failures = append(failures, fmt.Sprintf("%s: %v: %s", command, err, strings.TrimSpace(string(output))))
	}
	return fmt.Errorf("%s\n%s", r, strings.Join(failures, "\n"))
}
