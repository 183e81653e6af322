package harness

import (
	"context"
	"fmt"

	"github.com/alicebob/miniredis/v2"

	"github.com/millrace-go/millrace/test/internal/proc"
)

// miniredisBackend is the in-process twin of Redis. Its data survive stop and
// kill, and keys expire by the clock.
type miniredisBackend struct {
	addr string
	m    *miniredis.Miniredis
}

func startMiniredis(ctx context.Context, cfg RedisConfig) (*RedisServer, error) {
	port, err := portOr(cfg.Port)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	addr := proc.Loopback(port)
	info := Info{Name: "redis", Kind: Twin, Version: "miniredis", How: "in-process twin, not Redis"}
	r := &RedisServer{Server: newServer(info, addr, "", &miniredisBackend{addr: addr}), url: "redis://" + addr}
	return r, r.Start(ctx)
}

func (b *miniredisBackend) Start(context.Context) error {
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

func (b *miniredisBackend) Stop(context.Context) error { return b.Kill() }
func (b *miniredisBackend) Kill() error                { b.m.Close(); return nil }
func (b *miniredisBackend) Pause() error               { return ErrUnsupported }
func (b *miniredisBackend) Resume() error              { return ErrUnsupported }
func (b *miniredisBackend) PID() int                   { return 0 }
