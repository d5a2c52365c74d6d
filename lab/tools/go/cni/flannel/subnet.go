package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// subnetEnv is what flanneld says about this node.
type subnetEnv struct {
	network, subnet         *net.IPNet
	ipv6Network, ipv6Subnet *net.IPNet
	mtu                     int
	ipMasq                  bool
}

// loadSubnet reads flanneld's subnet.env: KEY=VALUE lines (flannel: pkg/subnet, WriteSubnetFile).
func loadSubnet(path string) (*subnetEnv, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("flannel: flanneld has not written this node's subnet yet: %w", err)
	}
	defer file.Close()

	env := &subnetEnv{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		key, value, found := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		if !found {
			continue
		}
		if err := env.set(key, value); err != nil {
			return nil, fmt.Errorf("flannel: %s: %s=%s: %w", path, key, value, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if env.mtu == 0 || (env.subnet == nil && env.ipv6Subnet == nil) {
		return nil, fmt.Errorf("flannel: %s is incomplete: it must name FLANNEL_MTU and a subnet", path)
	}
	return env, nil
}

func (env *subnetEnv) set(key, value string) (err error) {
	switch key {
	case "FLANNEL_NETWORK":
		_, env.network, err = net.ParseCIDR(value)
	case "FLANNEL_SUBNET":
		_, env.subnet, err = net.ParseCIDR(value)
	case "FLANNEL_IPV6_NETWORK":
		_, env.ipv6Network, err = net.ParseCIDR(value)
	case "FLANNEL_IPV6_SUBNET":
		_, env.ipv6Subnet, err = net.ParseCIDR(value)
	case "FLANNEL_MTU":
		env.mtu, err = strconv.Atoi(value)
	case "FLANNEL_IPMASQ":
		env.ipMasq, err = strconv.ParseBool(value)
	}
	return err
}
