package harness

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/test/internal/fetch"
	"github.com/millrace-go/millrace/test/internal/proc"
)

// KafkaConfig describes a private Kafka broker. The zero value is the best that
// the machine has.
type KafkaConfig struct {
	// Brokers are the addresses of a cluster that runs already. It is used instead
	// of starting one, and the other fields are ignored. Default: none.
	Brokers []string
	// HeapMB is the size of the broker's heap in MiB. Default 384.
	HeapMB int
	// Settings are further broker settings by name; they win over the defaults,
	// among them auto.create.topics.enable=false.
	Settings map[string]string
	// Twin asks for the in-process twin, Real for a real broker or an error.
	// Neither: a real broker, or a twin if it cannot be had.
	Twin, Real bool
	// Port to listen on. Default: a free one.
	Port int
	// Advertised is the host:port that clients are told to connect to, such as
	// that of a Proxy. Default: the broker's own. A twin ignores it.
	Advertised string
}

// KafkaServer is a Kafka cluster, of one broker if the harness started it.
type KafkaServer struct {
	*Server
	brokers []string
}

// Brokers are the addresses to give to a client.
func (k *KafkaServer) Brokers() []string { return slices.Clone(k.brokers) }

// StartKafka starts a private Kafka broker with a log of its own in a temporary
// folder. ctx bounds the start, not the life of the broker.
func StartKafka(ctx context.Context, cfg KafkaConfig) (*KafkaServer, error) {
	if len(cfg.Brokers) > 0 {
		return externalKafka(ctx, cfg.Brokers)
	}
	if cfg.Twin {
		return startKfake(ctx, cfg)
	}
	bin, err := fetch.FindKafka(ctx)
	if err != nil {
		return kfakeInstead(ctx, cfg, err)
	}
	dir, err := proc.MakeDir("kafka")
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	k, err := launchKafka(ctx, cfg, bin, dir)
	if err != nil {
		return nil, errors.Join(err, proc.RemoveDir(dir))
	}
	return k, nil
}

func launchKafka(ctx context.Context, cfg KafkaConfig, bin fetch.Kafka, dir string) (*KafkaServer, error) {
	port, err := portOr(cfg.Port)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	controller, err := proc.FreePort()
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	conf := filepath.Join(dir, "server.properties")
	if err := os.WriteFile(conf, cfg.file(filepath.Join(dir, "data"), port, controller), 0o644); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	err = proc.Run(ctx, nil, bin.Java, javaArgs(bin, 64, "kafka.tools.StorageTool", "format", "-t", clusterID(), "-c", conf)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	k := &KafkaServer{brokers: []string{proc.Loopback(port)}}
	if cfg.Advertised != "" {
		k.brokers = []string{cfg.Advertised}
	}
	heap := cmp.Or(cfg.HeapMB, 384)
	info := Info{Name: "kafka", Kind: Real, Version: bin.Version, How: bin.How}
	k.Server = newServer(info, proc.Loopback(port), dir, &proc.Process{
		Log: filepath.Join(dir, "log"), StopSignal: "TERM", AbortSignal: "KILL",
		Command: func() *exec.Cmd { return exec.Command(bin.Java, javaArgs(bin, heap, "kafka.Kafka", conf)...) },
		Ready:   func(ctx context.Context) error { return pingKafka(ctx, proc.Loopback(port)) },
	})
	return k, k.Start(ctx)
}

// javaArgs are the arguments of java for one of Kafka's classes.
func javaArgs(b fetch.Kafka, heapMB int, class string, args ...string) []string {
	return append([]string{
		fmt.Sprintf("-Xmx%dm", heapMB), fmt.Sprintf("-Xms%dm", heapMB), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Djava.awt.headless=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-cp", filepath.Join(b.Libs, "*"), class,
	}, args...)
}

// file is the broker's configuration: one node that is broker and controller.
func (c KafkaConfig) file(data string, port, controller int) []byte {
	advertised := cmp.Or(c.Advertised, proc.Loopback(port))
	settings := map[string]string{
		"process.roles": "broker,controller", "node.id": "1",
		"controller.quorum.voters":  "1@" + proc.Loopback(controller),
		"listeners":                 "PLAINTEXT://" + proc.Loopback(port) + ",CONTROLLER://" + proc.Loopback(controller),
		"advertised.listeners":      "PLAINTEXT://" + advertised,
		"controller.listener.names": "CONTROLLER", "log.dirs": data,
		"offsets.topic.replication.factor": "1", "offsets.topic.num.partitions": "4",
		"transaction.state.log.replication.factor": "1", "transaction.state.log.min.isr": "1",
		"transaction.state.log.num.partitions":             "4",
		"share.coordinator.state.topic.replication.factor": "1", "share.coordinator.state.topic.min.isr": "1",
		"group.initial.rebalance.delay.ms": "0", "group.min.session.timeout.ms": "1000", "auto.create.topics.enable": "false",
	}
	maps.Copy(settings, c.Settings)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s=%s\n", name, settings[name])
	}
	return []byte(b.String())
}

// clusterID is 16 random bytes in the base64 that Kafka wants.
func clusterID() string {
	var id [16]byte
	_, _ = rand.Read(id[:])
	id[0] &= 0x7f // so that the text never begins with a dash, which would read as an option
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// externalKafka connects to a cluster that runs already.
func externalKafka(ctx context.Context, brokers []string) (*KafkaServer, error) {
	at := strings.Join(brokers, ",")
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return nil, fmt.Errorf("kafka at %s: %w", at, err)
	}
	defer c.Close()
	versions, err := kadm.NewClient(c).ApiVersions(ctx)
	if err != nil {
		return nil, fmt.Errorf("kafka at %s: %w", at, err)
	}
	version := "unknown"
	for _, v := range versions.Sorted() {
		version = v.VersionGuess()
	}
	info := Info{Name: "kafka", Kind: External, Version: version, How: "at " + at}
	return &KafkaServer{Server: runningServer(info, brokers[0]), brokers: brokers}, nil
}

// pingKafka asks the broker for the cluster's metadata; it answers once it is
// registered with its controller.
func pingKafka(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer c.Close()
	m, err := kadm.NewClient(c).BrokerMetadata(ctx)
	if err == nil && len(m.Brokers) == 0 {
		err = errors.New("no broker has registered")
	}
	return err
}
