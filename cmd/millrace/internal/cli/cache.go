package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
)

var cacheUse = config.Use{Required: []config.Name{config.Redis}}

func (a *app) cache() *cobra.Command {
	return group("cache", "Look into what is cached in Redis, and end it", a.cacheInspect(), a.cacheInvalidate())
}

// oneKey lets cmd take its key as an argument.
func oneKey(cmd *cobra.Command, optional bool) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 || len(args) == 0 && !optional {
			return usageError{fmt.Errorf("%s: give one key, such as notification:4711", cmd.CommandPath())}
		}
		return nil
	}
	return cmd
}

// withRedis calls do with a client that gives up soon.
func (c *call) withRedis(ctx context.Context, do func(ctx context.Context, rdb *redis.Client) error) error {
	opt, err := redis.ParseURL(c.cfg.Redis)
	if err != nil {
		return usageError{errors.New("redis: is not a Redis URL: give redis://host:6379/0")}
	}
	opt.ContextTimeoutEnabled, opt.MaxRetries, opt.DialerRetries = true, -1, 1
	rdb := redis.NewClient(opt)
	defer rdb.Close()
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("redis at %s does not answer: %w: start it, or correct --redis", opt.Addr, err)
	}
	return do(ctx, rdb)
}

// invalidated is the state of an entry of which only the version counts.
const invalidated = "invalidated"

// storedEntry is what cache inspect --json prints; its keys are part of the
// interface.
type storedEntry struct {
	Key            string    `json:"key"`
	Stored         bool      `json:"stored"`
	Version        int64     `json:"version"`
	State          string    `json:"state"`
	Expires        time.Time `json:"expires"`
	LeftSeconds    float64   `json:"left_seconds"`    // until Redis drops it; negative: never
	LoadSeconds    float64   `json:"load_seconds"`    // 0 if it was put, not loaded
	FillingSeconds float64   `json:"filling_seconds"` // what the lease of a load has left; 0: nobody loads
	PayloadBytes   int       `json:"payload_bytes"`
	Payload        string    `json:"payload,omitempty"`
}

func (a *app) cacheInspect() *cobra.Command {
	var payload, asJSON bool
	return oneKey(a.command(spec{
		use: "inspect KEY", short: "Show the entry of a key",
		long: `Shows version, state and times of the entry that Redis has under KEY, the whole key
with its prefix, and whether somebody is loading it. The value itself is shown only
with --payload: it may be somebody's data. The exit code is 1 if nothing is stored.`,
		example: `  millrace cache inspect view:notification:4711 --redis redis://localhost:6379/0
  millrace cache inspect view:notification:4711 --payload --json`,
		settings: cacheUse,
		flags: func(f *pflag.FlagSet) {
			f.BoolVar(&payload, "payload", false, "show the value too")
			f.BoolVar(&asJSON, "json", false, "print one JSON object")
		},
		run: func(ctx context.Context, c *call, args []string) error {
			return c.withRedis(ctx, func(ctx context.Context, rdb *redis.Client) error {
				s, err := cache.Inspect(ctx, rdb, args[0])
				missing := errors.Is(err, cache.ErrMiss)
				if err != nil && !missing {
					return fmt.Errorf("%w: it is not an entry of a cache", err)
				}
				if err := c.printStored(args[0], s, !missing, payload, asJSON); err != nil {
					return err
				}
				if missing {
					return fmt.Errorf("nothing is stored under %s: give the whole key with its prefix", args[0])
				}
				return nil
			})
		},
	}), false)
}

func (c *call) printStored(key string, s cache.Stored, stored, payload, asJSON bool) error {
	e := storedEntry{Key: key, Stored: stored, FillingSeconds: s.Filling.Seconds()}
	if stored {
		e.Version, e.State, e.Expires, e.PayloadBytes = s.Version, s.State.String(), s.Expires.UTC(), len(s.Payload)
		e.LeftSeconds, e.LoadSeconds = s.Left.Seconds(), s.Took.Seconds()
		if s.Expires.UnixMilli() == 0 {
			e.State = invalidated
		}
		if payload {
			e.Payload = string(s.Payload)
		}
	}
	if asJSON {
		return printJSON(c.Out, e)
	}
	if !stored {
		return nil
	}
	source, expires := "put", e.Expires.Format(time.RFC3339)
	if e.State == invalidated {
		expires = "at once: the next read loads it again"
	}
	if s.Took > 0 {
		source = "loaded in " + s.Took.String()
	}
	rows := [][]string{
		{"KEY", key}, {"VERSION", count(e.Version)}, {"STATE", e.State}, {"EXPIRES", expires},
		{"LEFT", s.Left.Round(time.Second).String()}, {"SOURCE", source}, {"PAYLOAD", fmt.Sprintf("%d bytes", e.PayloadBytes)},
	}
	if s.Filling > 0 {
		rows = append(rows, []string{"LOADING", "somebody is, for at most " + s.Filling.String()})
	}
	if payload {
		rows = append(rows, []string{"VALUE", strings.ToValidUTF8(e.Payload, "\ufffd")})
	}
	return printTable(c.Out, rows)
}
