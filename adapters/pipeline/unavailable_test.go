package pipeline_test

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"syscall"
	"testing"

	"github.com/lib/pq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/consumer"
	"github.com/millrace-go/millrace/adapters/pipeline"
)

// redisError is an answer of a Redis.
type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

// spoken is an error of a client that says by itself what it is.
type spoken bool

func (spoken) Error() string       { return "gateway" }
func (s spoken) Unavailable() bool { return bool(s) }

func TestUnavailable_KnowsWhatSaysNothingAboutAMessage(t *testing.T) {
	t.Parallel()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for name, err := range map[string]error{
		"refused": refused, "wrapped": fmt.Errorf("put: %w", refused), "joined": errors.Join(errors.New("put"), refused),
		"no name": &net.DNSError{Name: "redis", IsNotFound: true}, "cut": io.EOF, "of a client": &url.Error{Op: "Post", Err: context.DeadlineExceeded},
		"a call's own time":                 fmt.Errorf("ask: %w", context.DeadlineExceeded),
		"no answer within a handler's time": fmt.Errorf("%w: %w", consumer.ErrTimeout, refused),
		"postgres starts":                   &pq.Error{Code: "57P03"}, "postgres is full": &pq.Error{Code: "53300"}, "a standby": &pq.Error{Code: "25006"},
		"bad connection": driver.ErrBadConn, "pool": redis.ErrPoolTimeout, "cache": fmt.Errorf("%w: gone", cache.ErrUnavailable),
		"loading": redisError("LOADING Redis is loading the dataset in memory"), "replica": redisError("READONLY You can't write against a read only replica."),
		"full": redisError("OOM command not allowed when used memory > 'maxmemory'."), "clients": redisError("ERR max number of clients reached"),
		"marked": fmt.Errorf("gateway: %w", consumer.ErrUnavailable), "it says so": fmt.Errorf("send: %w", spoken(true)),
	} {
		require.True(t, pipeline.Unavailable(err), name)
	}
	for name, err := range map[string]error{
		"nothing": nil, "any": errors.New("no such customer"), "handler's time": fmt.Errorf("%w after 10s: %w", consumer.ErrTimeout, context.DeadlineExceeded),
		"unique": &pq.Error{Code: "23505"}, "no table": &pq.Error{Code: "42P01"}, "deadlock": &pq.Error{Code: "40P01"},
		"wrong type": redisError("WRONGTYPE Operation against a key holding the wrong kind of value"), "group": redisError("BUSYGROUP Consumer Group name already exists"),
		"nil": redis.Nil, "syntax": &json.SyntaxError{}, "address": &url.Error{Op: "Post", Err: errors.New("unsupported protocol scheme")},
		"cancelled": context.Canceled, "it says not": fmt.Errorf("send: %w: %w", spoken(false), refused),
	} {
		require.False(t, pipeline.Unavailable(err), name)
	}
}
