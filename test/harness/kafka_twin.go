package harness

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/millrace-go/millrace/test/internal/fetch"
	"github.com/millrace-go/millrace/test/internal/proc"
)

// kfakeBackend is the in-process twin of Kafka. It keeps its log on disk, so
// that it survives restarts and stays out of our memory.
type kfakeBackend struct {
	port     int
	data     string
	settings map[string]string
	cluster  *kfake.Cluster
}

// kfakeInstead starts a twin if Kafka is not installed, as err says, and a twin may
// serve.
func kfakeInstead(ctx context.Context, cfg KafkaConfig, err error) (*KafkaServer, error) {
	if !errors.Is(err, ErrNotInstalled) || cfg.Real || requireReal() {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	fetch.Progress("%v; taking the in-process twin kfake", err)
	return startKfake(ctx, cfg)
}

func startKfake(ctx context.Context, cfg KafkaConfig) (*KafkaServer, error) {
	port, err := portOr(cfg.Port)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	dir, err := proc.MakeDir("kfake")
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	info := Info{Name: "kafka", Kind: Twin, Version: "kfake", How: "in-process twin, not Apache Kafka"}
	twin := &kfakeBackend{port: port, data: filepath.Join(dir, "data"), settings: maps.Clone(cfg.Settings)}
	k := &KafkaServer{Server: newServer(info, proc.Loopback(port), dir, twin), brokers: []string{proc.Loopback(port)}}
	if err := k.Start(ctx); err != nil {
		return nil, errors.Join(err, proc.RemoveDir(dir))
	}
	return k, nil
}

func (b *kfakeBackend) Start(context.Context) error {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(b.port),
		kfake.DataDir(b.data), kfake.BrokerConfigs(b.settings))
	if err != nil {
		return err
	}
	b.cluster = cluster
	return nil
}

func (b *kfakeBackend) Stop(context.Context) error { return b.Kill() }
func (b *kfakeBackend) Kill() error                { b.cluster.Close(); return nil }
func (b *kfakeBackend) Pause() error               { return ErrUnsupported }
func (b *kfakeBackend) Resume() error              { return ErrUnsupported }
func (b *kfakeBackend) PID() int                   { return 0 }
