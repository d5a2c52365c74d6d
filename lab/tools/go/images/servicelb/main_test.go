package main

import (
	"strings"
	"testing"
)

func env(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func TestRulesOfOneServicePort(t *testing.T) {
	rules, err := plan(env(map[string]string{
		"SRC_PORT": "15443", "SRC_RANGES": "10.0.0.0/8,192.168.0.0/16", "DEST_PROTO": "TCP",
		"DEST_PORT": "30443", "DEST_IPS": "10.43.0.7,fd00::7",
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"iptables -t filter -I FORWARD -s 10.0.0.0/8 -p tcp --dport 30443 -j ACCEPT",
		"iptables -t filter -I FORWARD -s 192.168.0.0/16 -p tcp --dport 30443 -j ACCEPT",
		"iptables -t filter -A FORWARD -d 10.43.0.7/32 -p tcp --dport 30443 -j DROP",
		"iptables -t nat -I PREROUTING -p tcp --dport 15443 -j DNAT --to 10.43.0.7:30443",
		"iptables -t nat -I POSTROUTING -d 10.43.0.7/32 -p tcp -j MASQUERADE",
		"ip6tables -t filter -A FORWARD -d fd00::7/128 -p tcp --dport 30443 -j DROP",
		"ip6tables -t nat -I PREROUTING -p tcp --dport 15443 -j DNAT --to [fd00::7]:30443",
		"ip6tables -t nat -I POSTROUTING -d fd00::7/128 -p tcp -j MASQUERADE",
	}
	var got []string
	for _, rule := range rules {
		got = append(got, rule.String())
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAnIncompleteOrMalformedEnvironmentIsRefused(t *testing.T) {
	good := map[string]string{"SRC_PORT": "1", "DEST_PROTO": "TCP", "DEST_PORT": "2", "DEST_IPS": "10.0.0.1"}
	if _, err := plan(env(good)); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"SRC_PORT": "", "DEST_PROTO": "", "DEST_PORT": "", "DEST_IPS": "", "SRC_RANGES": "10.0.0.1",
	} {
		bad := map[string]string{}
		for key, kept := range good {
			bad[key] = kept
		}
		bad[name] = value
		if _, err := plan(env(bad)); err == nil {
			t.Errorf("%s=%q was accepted", name, value)
		}
	}
	good["DEST_IPS"] = "not-an-address"
	if _, err := plan(env(good)); err == nil {
		t.Error("a host name among DEST_IPS was accepted")
	}
}
