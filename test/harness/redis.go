package harness

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/test/internal/fetch"
	"github.com/millrace-go/millrace/test/internal/proc"
)

// RedisConfig describes a private Redis server. The zero value is the best that
// the machine has, without persistence.
type RedisConfig struct {
	// URL is the redis://host:port of a server that runs already. It is used
	// instead of starting one, and the other fields are ignored. Default: none.
	URL string
	// Durable turns the append-only file on, so that data survive Kill. Default
	// off: the server is empty after Kill and after Restart.
	Durable bool
	// Settings are further server settings by name. A twin ignores them.
	Settings map[string]string
	// Twin asks for the in-process twin, Real for a real server or an error.
	// Neither: a real server, or a twin if none is installed.
	Twin, Real bool
	// Port to listen on. Default: a free one.
	Port int
}

// RedisServer is a Redis server.
type RedisServer struct {
	*Server
	url string
}

// URL is the server's address as redis://host:port.
func (r *RedisServer) URL() string { return r.url }

// StartRedis starts a private Redis server. ctx bounds the start, not the life
// of the server.
func StartRedis(ctx context.Context, cfg RedisConfig) (*RedisServer, error) {
	if cfg.URL != "" {
		return externalRedis(ctx, cfg.URL)
	}
	if cfg.Twin {
		return startMiniredis(ctx, cfg)
	}
	path, err := findRedis()
	if err != nil {
		if cfg.Real || requireReal() {
			return nil, err
		}
		fetch.Progress("%v; taking the in-process twin miniredis", err)
		return startMiniredis(ctx, cfg)
	}
	dir, err := proc.MakeDir("redis")
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	r, err := launchRedis(ctx, cfg, path, dir)
	if err != nil {
		return nil, errors.Join(err, proc.RemoveDir(dir))
	}
	return r, nil
}

func findRedis() (string, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", fetch.NotInstalled("Redis", "apt-get install redis-server, brew install redis, or set "+EnvRedis)
	}
	return path, nil
}

func launchRedis(ctx context.Context, cfg RedisConfig, path, dir string) (*RedisServer, error) {
	port, err := portOr(cfg.Port)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	conf := filepath.Join(dir, "redis.conf")
	if err := os.WriteFile(conf, cfg.file(dir, port), 0o644); err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	info := Info{Name: "redis", Kind: Real, Version: redisVersion(ctx, path), How: "started from " + path}
	backend := &proc.Process{
		Log: filepath.Join(dir, "log"), StopSignal: "TERM", AbortSignal: "KILL",
		Command: func() *exec.Cmd { return exec.Command(path, conf) },
		Ready:   func(ctx context.Context) error { return pingRedis(ctx, proc.Loopback(port)) },
	}
	r := &RedisServer{Server: newServer(info, proc.Loopback(port), dir, backend), url: "redis://" + proc.Loopback(port)}
	return r, r.Start(ctx)
}

// file is the server's configuration file.
func (c RedisConfig) file(dir string, port int) []byte {
	settings := map[string]string{
		"port": strconv.Itoa(port), "bind": "127.0.0.1", "dir": dir, "databases": "4096",
		"save": `""`, "appendonly": map[bool]string{true: "yes", false: "no"}[c.Durable],
		"appendfsync": "always", "protected-mode": "no",
	}
	maps.Copy(settings, c.Settings)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s %s\n", name, settings[name])
	}
	return []byte(b.String())
}

// externalRedis connects to a server that runs already.
func externalRedis(ctx context.Context, url string) (*RedisServer, error) {
	opt, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	c := redis.NewClient(opt)
	defer c.Close()
	if err := c.Ping(ctx).Err(); err != nil {
		return nil, fmt.Errorf("redis at %s: %w", opt.Addr, err)
	}
	text, _ := c.Info(ctx, "server").Result() // not every server says
	_, version, _ := strings.Cut(text, "redis_version:")
	info := Info{Name: "redis", Kind: External, Version: firstField(version), How: "at " + opt.Addr}
	return &RedisServer{Server: runningServer(info, opt.Addr), url: url}, nil
}

func redisVersion(ctx context.Context, path string) string {
	out, err := exec.CommandContext(ctx, path, "--version").Output() // "Redis server v=7.0.15 sha=…"
	if err != nil {
		return "unknown"
	}
	_, version, _ := strings.Cut(string(out), "v=")
	return firstField(version)
}

func pingRedis(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	defer c.Close()
	return c.Ping(ctx).Err()
}
