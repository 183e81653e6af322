package pipeline

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/consumer"
)

// Unavailable reports whether err says that a dependency cannot do its work at the
// moment, and so nothing about the message that was handled. It is the default of
// GroupConfig.Unavailable.
//
// It holds for all that consumer.IsUnavailable names, and for what a service with
// Redis and a cache meets besides. It is true of connections that were refused, broken or timed out, of Postgres
// when it shuts down, starts, has no room or is a standby, of Redis when it loads,
// is a replica, is full, busy or refuses the login, of cache.ErrUnavailable and
// cache.ErrOverloaded, and of an error with a method Unavailable() bool that returns
// true. It is false for a handler that used up its own time (consumer.ErrTimeout):
// give clients shorter timeouts than handlers have.
func Unavailable(err error) bool {
	if own, ok := errors.AsType[interface {
		error
		Unavailable() bool
	}](err); ok {
		return own.Unavailable()
	}
	return consumer.IsUnavailable(err) || isOne(err, unavailable) || brokenConnection(err) || timedOut(err) || refusedByPostgres(err) || refusedByRedis(err)
}

var unavailable = []error{
	cache.ErrUnavailable, cache.ErrOverloaded, redis.ErrPoolTimeout, redis.ErrPoolExhausted,
	driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, os.ErrDeadlineExceeded,
	syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, syscall.EHOSTUNREACH, syscall.ENETUNREACH,
}

func isOne(err error, of []error) bool {
	return slices.ContainsFunc(of, func(target error) bool { return errors.Is(err, target) })
}

func brokenConnection(err error) bool {
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	_, ok := errors.AsType[*net.DNSError](err)
	return ok
}

// timedOut reports a timeout that is not the handler's own.
func timedOut(err error) bool {
	if errors.Is(err, consumer.ErrTimeout) {
		return false
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// refusedByPostgres reads the SQLSTATE, of any driver: class 08
// is connections, 53 is no room, 57P is the server's own shutdown and start, 25006 is
// a standby.
func refusedByPostgres(err error) bool {
	state, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err)
	if !ok {
		return false
	}
	code := state.SQLState()
	return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "53") || strings.HasPrefix(code, "57P") || code == "25006"
}

// redisRefusals are how the answers of a Redis begin that does nothing for anybody.
var redisRefusals = []string{
	"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY ", "NOREPLICAS", "OOM", "MISCONF",
	"NOAUTH", "WRONGPASS", "max number of clients reached",
}

func refusedByRedis(err error) bool {
	return slices.ContainsFunc(redisRefusals, func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) })
}
