package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// What flanneld of k3s writes, and what k3s puts into 10-flannel.conflist (k3s: pkg/agent/flannel/setup_linux.go).
const (
	subnetFile = "FLANNEL_NETWORK=10.42.0.0/16\nFLANNEL_SUBNET=10.42.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
	conflist   = `{"name":"cbr0","cniVersion":"1.0.0","type":"flannel",
		"delegate":{"hairpinMode":true,"forceAddress":true,"isDefaultGateway":true}}`
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "subnet.env")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheDelegateOfK3sOwnConfiguration(t *testing.T) {
	conf, err := loadConf([]byte(conflist))
	if err != nil {
		t.Fatal(err)
	}
	subnet, err := loadSubnet(write(t, subnetFile))
	if err != nil {
		t.Fatal(err)
	}
	content, err := json.Marshal(delegateConf(conf, subnet))
	if err != nil {
		t.Fatal(err)
	}
	var got, want map[string]any
	if err := json.Unmarshal(content, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{
		"name": "cbr0", "cniVersion": "1.0.0", "type": "bridge", "mtu": 1450, "ipMasq": false, "isGateway": true,
		"hairpinMode": true, "forceAddress": true, "isDefaultGateway": true,
		"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.42.1.0/24"}]], "routes": [{"dst": "10.42.0.0/16"}]}
	}`), &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %s", content)
	}
}

func TestTheDelegateCannotTakeTheNetworksNameOrAddresses(t *testing.T) {
	if _, err := loadConf([]byte(`{"name":"n","type":"flannel","delegate":{"ipam":{}}}`)); err == nil {
		t.Error("a delegate with ipam was accepted")
	}
}

func TestAnIncompleteSubnetFileIsRefused(t *testing.T) {
	for _, text := range []string{"", "FLANNEL_MTU=1450\n", "FLANNEL_SUBNET=10.42.1.1/24\n", "FLANNEL_SUBNET=x\nFLANNEL_MTU=1\n"} {
		if _, err := loadSubnet(write(t, text)); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	if _, err := loadSubnet(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("an absent file was accepted")
	}
}

func TestWhatAddStoresIsWholeOrNotThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "container")
	for _, content := range []string{`{"type":"bridge"}`, `{"type":"other"}`} {
		if err := save(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		stored, err := os.ReadFile(path)
		if err != nil || string(stored) != content {
			t.Errorf("stored %q, %v", stored, err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}
