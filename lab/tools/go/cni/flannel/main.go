// Command flannel is the CNI plugin that k3s's 10-flannel.conflist names. It turns what flanneld wrote about this node
// (/run/flannel/subnet.env) into a configuration for the `bridge` plugin with `host-local` addresses, and delegates.
//
// Behaviour follows flannel-io/cni-plugin (Linux): the `delegate` block wins over what is derived here; ADD stores the
// delegate's configuration by container, so that DEL and CHECK use the very same one even when the subnet has changed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

const (
	defaultSubnetFile = "/run/flannel/subnet.env"
	defaultDataDir    = "/var/lib/cni/flannel"
)

// netConf is this plugin's own configuration.
type netConf struct {
	types.NetConf
	SubnetFile string         `json:"subnetFile"`
	DataDir    string         `json:"dataDir"`
	Delegate   map[string]any `json:"delegate"`
}

func loadConf(stdin []byte) (*netConf, error) {
	conf := &netConf{SubnetFile: defaultSubnetFile, DataDir: defaultDataDir}
	if err := json.Unmarshal(stdin, conf); err != nil {
		return nil, fmt.Errorf("flannel: cannot read the network configuration: %w", err)
	}
	for _, reserved := range []string{"name", "ipam"} {
		if _, taken := conf.Delegate[reserved]; taken {
			return nil, fmt.Errorf("flannel: the delegate must not set %q: this plugin does", reserved)
		}
	}
	return conf, nil
}

// delegateConf returns the configuration of the plugin that does the work.
func delegateConf(conf *netConf, subnet *subnetEnv) map[string]any {
	delegate := map[string]any{
		"type":      "bridge",
		"ipMasq":    !subnet.ipMasq, // masquerade here only when flanneld does not
		"mtu":       subnet.mtu,
		"isGateway": true,
	}
	for key, value := range conf.Delegate {
		delegate[key] = value
	}
	delegate["name"] = conf.Name
	delegate["cniVersion"] = conf.CNIVersion

	var ranges [][]map[string]string
	var routes []map[string]string
	for _, family := range []struct{ network, subnet *net.IPNet }{
		{subnet.network, subnet.subnet}, {subnet.ipv6Network, subnet.ipv6Subnet},
	} {
		if family.subnet == nil {
			continue
		}
		ranges = append(ranges, []map[string]string{{"subnet": family.subnet.String()}})
		if family.network != nil {
			routes = append(routes, map[string]string{"dst": family.network.String()})
		}
	}
	delegate["ipam"] = map[string]any{"type": "host-local", "ranges": ranges, "routes": routes}
	return delegate
}

func statePath(conf *netConf, args *skel.CmdArgs) string {
	return filepath.Join(conf.DataDir, args.ContainerID)
}

// save writes the delegate's configuration whole or not at all: a killed ADD must not leave half a file for DEL.
func save(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temporary := path + ".tmp"
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func delegateType(content []byte) (string, error) {
	var delegate struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(content, &delegate); err != nil {
		return "", fmt.Errorf("flannel: cannot read the delegate's configuration: %w", err)
	}
	return delegate.Type, nil
}

func add(args *skel.CmdArgs) error {
	conf, err := loadConf(args.StdinData)
	if err != nil {
		return err
	}
	subnet, err := loadSubnet(conf.SubnetFile)
	if err != nil {
		return err
	}
	content, err := json.Marshal(delegateConf(conf, subnet))
	if err != nil {
		return err
	}
	if err := save(statePath(conf, args), content); err != nil {
		return fmt.Errorf("flannel: cannot store the delegate's configuration: %w", err)
	}
	plugin, err := delegateType(content)
	if err != nil {
		return err
	}
	result, err := invoke.DelegateAdd(context.TODO(), plugin, content, nil)
	if err != nil {
		return err
	}
	return types.PrintResult(result, conf.CNIVersion)
}

func check(args *skel.CmdArgs) error {
	conf, err := loadConf(args.StdinData)
	if err != nil {
		return err
	}
	var input map[string]any
	if err := json.Unmarshal(args.StdinData, &input); err != nil {
		return err
	}
	content, err := os.ReadFile(statePath(conf, args))
	if err != nil {
		return fmt.Errorf("flannel: container %s was not added by this plugin: %w", args.ContainerID, err)
	}
	var delegate map[string]any
	if err := json.Unmarshal(content, &delegate); err != nil {
		return err
	}
	delegate["prevResult"] = input["prevResult"]
	if content, err = json.Marshal(delegate); err != nil {
		return err
	}
	plugin, err := delegateType(content)
	if err != nil {
		return err
	}
	return invoke.DelegateCheck(context.TODO(), plugin, content, nil)
}

// del succeeds for a container it does not know, as the CNI specification asks.
func del(args *skel.CmdArgs) error {
	conf, err := loadConf(args.StdinData)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(statePath(conf, args))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	plugin, err := delegateType(content)
	if err != nil {
		return err
	}
	if err := invoke.DelegateDel(context.TODO(), plugin, content, nil); err != nil {
		return err
	}
	return os.Remove(statePath(conf, args))
}

func main() {
	skel.PluginMainFuncs(
		skel.CNIFuncs{Add: add, Check: check, Del: del}, version.All, "flannel: delegate to bridge with host-local addresses",
	)
}
