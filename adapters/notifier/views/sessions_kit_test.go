package views_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lib/pq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/cache"
	"github.com/millrace-go/millrace/adapters/notifier/codec"
	"github.com/millrace-go/millrace/adapters/notifier/postgres"
	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/app/apptest"
	"github.com/millrace-go/millrace/domain/account"
	"github.com/millrace-go/millrace/outbox"
	"github.com/millrace-go/millrace/outbox/pgstore"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

const (
	email    = "ada@example.org"
	password = "correct horse"
	within   = 2 * time.Minute
)

// hardened is a client of the server with the limits that a cache needs.
func hardened(t *testing.T, of *redis.Options) *redis.Client {
	t.Helper()
	opt := cache.Options(of.Addr)
	opt.DB, opt.Dialer = of.DB, of.Dialer
	rdb := redis.NewClient(opt)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// answering is the test's database of a Redis server that answers, for which
// clients wait however busy the machine is.
func answering(t *testing.T) *redis.Options {
	t.Helper()
	of := harness.Redis(t).Options()
	return &redis.Options{Addr: of.Addr, DB: of.DB, Dialer: lab.DialPatiently}
}

// ownRedis is a Redis server that the test may break.
func ownRedis(t *testing.T) (*harness.RedisServer, *redis.Options) {
	t.Helper()
	server, err := harness.StartRedis(t.Context(), harness.RedisConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Stop(context.WithoutCancel(t.Context())) })
	opt, err := redis.ParseURL(server.URL())
	require.NoError(t, err)
	return server, opt
}

// node is one process of the service: use cases with a cache and a pool of their
// own, over a database and a Redis that it shares with others.
type node struct {
	*app.Access
	sessions   *views.Sessions
	reader     app.AccountReader
	store      *cache.Store
	db         *sql.DB
	statements *atomic.Int64 // asked of the database
	untold     atomic.Int64  // how often the cache was not told
	rdb        *redis.Client
}

type nodeConfig struct {
	dsn    string
	redis  *redis.Options
	now    func() time.Time
	life   time.Duration
	reader func(app.AccountReader) app.AccountReader // stands before the database
}

func newNode(t *testing.T, cfg nodeConfig) *node {
	t.Helper()
	n := &node{rdb: hardened(t, cfg.redis), statements: new(atomic.Int64)}
	connector, err := pq.NewConnector(cfg.dsn)
	require.NoError(t, err)
	n.db = sql.OpenDB(counting{connector, n.statements})
	t.Cleanup(func() { require.NoError(t, n.db.Close()) })
	var reader app.AccountReader = postgres.NewAccountReader(n.db)
	if cfg.reader != nil {
		reader = cfg.reader(reader)
	}
	n.reader = reader
	n.store, err = cache.NewStore(n.rdb, cache.StoreConfig{Now: cfg.now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.store.Close()) })
	n.sessions, err = views.NewSessions(n.store, reader, views.SessionsConfig{})
	require.NoError(t, err)
	log, err := pgstore.New(n.db, pgstore.Config{})
	require.NoError(t, err)
	writer, err := outbox.NewWriter(log, outbox.WriterConfig{})
	require.NoError(t, err)
	uow, err := postgres.NewUnitOfWork(n.db, writer, codec.New(codec.Config{}), postgres.Config{})
	require.NoError(t, err)
	n.Access, err = app.NewAccess(uow, reader, n.sessions, &apptest.Passwords{}, app.AccessConfig{
		SessionLife: cfg.life, Now: cfg.now, CacheFailed: func(context.Context, error) { n.untold.Add(1) },
	})
	require.NoError(t, err)
	return n
}

func (n *node) signUp(t *testing.T) account.ID {
	t.Helper()
	id, err := n.SignUp(t.Context(), email, password)
	require.NoError(t, err)
	return id
}

func (n *node) logIn(t *testing.T) string {
	t.Helper()
	got, err := n.LogIn(t.Context(), email, password)
	require.NoError(t, err)
	return got.Token.Reveal()
}

// valid is the verdict on a token; anything but a verdict fails the test.
func (n *node) valid(t *testing.T, token string) bool {
	t.Helper()
	_, err := n.Authenticate(t.Context(), token)
	if !errors.Is(err, account.ErrInvalidToken) {
		require.NoError(t, err)
	}
	return err == nil
}

func idOf(t *testing.T, token string) account.SessionID {
	t.Helper()
	parsed, err := account.ParseToken(token)
	require.NoError(t, err)
	return parsed.Session()
}

// counting counts every statement that database/sql sends over its connections,
// and the beginnings and ends of transactions.
type counting struct {
	driver.Connector
	n *atomic.Int64
}

func (c counting) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return countingConn{conn, c.n}, nil
}

// countingConn hides the optional interfaces of lib/pq's connection that would
// go past it, but for those that it counts.
type countingConn struct {
	driver.Conn
	n *atomic.Int64
}

func (c countingConn) Prepare(query string) (driver.Stmt, error) {
	c.n.Add(1)
	return c.Conn.Prepare(query)
}

func (c countingConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	c.n.Add(1)
	begin, ok := c.Conn.(driver.ConnBeginTx)
	if !ok {
		return nil, errors.New("the driver cannot begin")
	}
	return begin.BeginTx(ctx, opts)
}

func (c countingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.n.Add(1)
	q, ok := c.Conn.(driver.QueryerContext)
	if !ok {
		return nil, driver.ErrSkip
	}
	return q.QueryContext(ctx, query, args)
}

func (c countingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.n.Add(1)
	e, ok := c.Conn.(driver.ExecerContext)
	if !ok {
		return nil, driver.ErrSkip
	}
	return e.ExecContext(ctx, query, args)
}

func (c countingConn) CheckNamedValue(v *driver.NamedValue) error {
	if check, ok := c.Conn.(driver.NamedValueChecker); ok {
		return check.CheckNamedValue(v)
	}
	return driver.ErrSkip
}
