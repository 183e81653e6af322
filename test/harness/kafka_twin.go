package harness

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kfake"
)

// kfakeBackend is the in-process twin of Kafka. It keeps its log on disk, so
// that it survives restarts and stays out of our memory.
type kfakeBackend struct {
	port     int
	data     string
	settings map[string]string
	cluster  *kfake.Cluster
}

func startKfake(ctx context.Context, cfg KafkaConfig) (*KafkaServer, error) {
	port, err := cfg.Port, error(nil)
	if port == 0 {
		if port, err = FreePort(); err != nil {
			return nil, fmt.Errorf("kafka: %w", err)
		}
	}
	dir, err := makeDir("kfake")
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	k := &KafkaServer{brokers: []string{loopback(port)}}
	k.info = Info{Name: "kafka", Kind: Twin, Version: "kfake", How: "in-process twin, not Apache Kafka"}
	k.addr, k.dir = loopback(port), dir
	k.backend = &kfakeBackend{port: port, data: filepath.Join(dir, "data"), settings: maps.Clone(cfg.Settings)}
	if err := k.Start(ctx); err != nil {
		return nil, errors.Join(err, removeDir(dir))
	}
	return k, nil
}

func (b *kfakeBackend) start(context.Context) error {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(b.port),
		kfake.DataDir(b.data), kfake.BrokerConfigs(b.settings))
	if err != nil {
		return err
	}
	b.cluster = cluster
	return nil
}

func (b *kfakeBackend) stop(context.Context) error { return b.kill() }
func (b *kfakeBackend) kill() error                { b.cluster.Close(); return nil }
func (b *kfakeBackend) pause() error               { return ErrUnsupported }
func (b *kfakeBackend) resume() error              { return ErrUnsupported }
func (b *kfakeBackend) pid() int                   { return 0 }
