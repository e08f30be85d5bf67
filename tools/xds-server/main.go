// An xDS server that is not ours: github.com/envoyproxy/go-control-plane behind a pipe.
//
// Each line of standard input is a whole configuration as JSON: {"version": V, "resources": [...]},
// every resource with its "@type". Each line of standard output is something that happened:
// {"event": "listening" | "set" | "refused" | "open" | "closed" | "request" | "response", ...}.
// It ends with its input.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"sync"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	// The messages that configurations hold inside `Any`.
	_ "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

// Longest line of input, bytes.
const maxLine = 16 << 20

// The one key of the cache: every proxy gets the same.
const everybody = "everybody"

type anyNode struct{}

func (anyNode) ID(*core.Node) string { return everybody }

// input is one line of standard input.
type input struct {
	Version   string            `json:"version"`
	Resources []json.RawMessage `json:"resources"`
}

// event is one line of standard output.
type event struct {
	Event       string            `json:"event"`
	Address     string            `json:"address,omitempty"`
	Type        string            `json:"type,omitempty"`
	Node        string            `json:"node,omitempty"`
	Names       []string          `json:"names,omitempty"`
	Unsubscribe []string          `json:"unsubscribe,omitempty"`
	Held        map[string]string `json:"held,omitempty"`
	Version     string            `json:"version,omitempty"`
	Nonce       string            `json:"nonce,omitempty"`
	Error       string            `json:"error,omitempty"`
	Removed     []string          `json:"removed,omitempty"`
}

var output sync.Mutex

func tell(e event) {
	output.Lock()
	defer output.Unlock()
	line, err := json.Marshal(e)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

// watcher tells what goes over the wire.
type watcher struct{}

func (watcher) opened() error { tell(event{Event: "open"}); return nil }
func (watcher) closed()       { tell(event{Event: "closed"}) }

func (w watcher) OnStreamOpen(context.Context, int64, string) error      { return w.opened() }
func (w watcher) OnDeltaStreamOpen(context.Context, int64, string) error { return w.opened() }
func (w watcher) OnStreamClosed(int64, *core.Node)                       { w.closed() }
func (w watcher) OnDeltaStreamClosed(int64, *core.Node)                  { w.closed() }

func (watcher) OnStreamRequest(_ int64, r *discovery.DiscoveryRequest) error {
	tell(event{
		Event: "request", Type: r.TypeUrl, Node: r.GetNode().GetId(), Names: r.ResourceNames,
		Version: r.VersionInfo, Nonce: r.ResponseNonce, Error: r.GetErrorDetail().GetMessage(),
	})
	return nil
}

func (watcher) OnStreamDeltaRequest(_ int64, r *discovery.DeltaDiscoveryRequest) error {
	tell(event{
		Event: "request", Type: r.TypeUrl, Node: r.GetNode().GetId(),
		Names: r.ResourceNamesSubscribe, Unsubscribe: r.ResourceNamesUnsubscribe,
		Held: r.InitialResourceVersions, Nonce: r.ResponseNonce,
		Error: r.GetErrorDetail().GetMessage(),
	})
	return nil
}

func (watcher) OnStreamResponse(
	_ context.Context, _ int64, _ *discovery.DiscoveryRequest, r *discovery.DiscoveryResponse,
) {
	var names []string
	for _, packed := range r.Resources {
		if message, err := packed.UnmarshalNew(); err == nil {
			names = append(names, cache.GetResourceName(message))
		}
	}
	tell(event{
		Event: "response", Type: r.TypeUrl, Names: names, Version: r.VersionInfo, Nonce: r.Nonce,
	})
}

func (watcher) OnStreamDeltaResponse(
	_ int64, _ *discovery.DeltaDiscoveryRequest, r *discovery.DeltaDiscoveryResponse,
) {
	var names []string
	for _, resource := range r.Resources {
		names = append(names, resource.Name)
	}
	tell(event{
		Event: "response", Type: r.TypeUrl, Names: names, Removed: r.RemovedResources,
		Version: r.SystemVersionInfo, Nonce: r.Nonce,
	})
}

func (watcher) OnFetchRequest(context.Context, *discovery.DiscoveryRequest) error { return nil }
func (watcher) OnFetchResponse(*discovery.DiscoveryRequest, *discovery.DiscoveryResponse) {
}

// read turns a line into a snapshot.
func read(line []byte) (*cache.Snapshot, string, error) {
	var given input
	if err := json.Unmarshal(line, &given); err != nil {
		return nil, "", err
	}
	byType := map[resource.Type][]types.Resource{
		resource.ClusterType: nil, resource.EndpointType: nil,
		resource.ListenerType: nil, resource.RouteType: nil,
	}
	for _, text := range given.Resources {
		var packed anypb.Any
		if err := protojson.Unmarshal(text, &packed); err != nil {
			return nil, given.Version, err
		}
		message, err := packed.UnmarshalNew()
		if err != nil {
			return nil, given.Version, err
		}
		if _, known := byType[packed.TypeUrl]; !known {
			return nil, given.Version, fmt.Errorf("no resource: %s", packed.TypeUrl)
		}
		byType[packed.TypeUrl] = append(byType[packed.TypeUrl], message)
	}
	snapshot, err := cache.NewSnapshot(given.Version, byType)
	return snapshot, given.Version, err
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where ADS is served")
	flag.Parse()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	snapshots := cache.NewSnapshotCache(true, anyNode{}, nil)
	ads := server.NewServer(ctx, snapshots, watcher{})
	transport := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(transport, ads)
	go func() {
		if err := transport.Serve(listener); err != nil {
			log.Fatal(err)
		}
	}()
	tell(event{Event: "listening", Address: listener.Addr().String()})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		snapshot, version, err := read(lines.Bytes())
		if err == nil {
			err = snapshots.SetSnapshot(ctx, everybody, snapshot)
		}
		if err != nil {
			tell(event{Event: "refused", Version: version, Error: err.Error()})
			continue
		}
		tell(event{Event: "set", Version: version})
	}
	transport.Stop()
}
