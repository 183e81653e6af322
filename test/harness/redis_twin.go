package harness

import (
	"context"
	"fmt"

	"github.com/alicebob/miniredis/v2"
)

// miniredisBackend is the in-process twin of Redis. Its data survive stop and
// kill, and keys expire by the clock.
type miniredisBackend struct {
	addr string
	m    *miniredis.Miniredis
}

func startMiniredis(ctx context.Context, cfg RedisConfig) (*RedisServer, error) {
	port, err := cfg.Port, error(nil)
	if port == 0 {
		if port, err = FreePort(); err != nil {
			return nil, fmt.Errorf("redis: %w", err)
		}
	}
	r := &RedisServer{url: "redis://" + loopback(port)}
	r.info = Info{Name: "redis", Kind: Twin, Version: "miniredis", How: "in-process twin, not Redis"}
	r.addr, r.backend = loopback(port), &miniredisBackend{addr: loopback(port)}
	return r, r.Start(ctx)
}

func (b *miniredisBackend) start(context.Context) error {
	if b.m != nil {
		return b.m.Restart()
	}
	m := miniredis.NewMiniRedis()
	m.ClockTTL(true)
	if err := m.StartAddr(b.addr); err != nil {
		return err
	}
	b.m = m
	return nil
}

func (b *miniredisBackend) stop(context.Context) error { return b.kill() }
func (b *miniredisBackend) kill() error                { b.m.Close(); return nil }
func (b *miniredisBackend) pause() error               { return ErrUnsupported }
func (b *miniredisBackend) resume() error              { return ErrUnsupported }
func (b *miniredisBackend) pid() int                   { return 0 }
