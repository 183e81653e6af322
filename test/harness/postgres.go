package harness

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	_ "github.com/lib/pq" // the driver of every connection here

	"github.com/millrace-go/millrace/test/internal/fetch"
	"github.com/millrace-go/millrace/test/internal/proc"
)

// PostgresConfig describes a private Postgres server. The zero value is a fast
// one for tests.
type PostgresConfig struct {
	// URL is the postgres:// URL of a server that runs already and whose user may
	// create databases. It is used instead of starting one, and the other fields
	// are ignored. Default: none.
	URL string
	// Durable turns fsync on, so that commits survive the machine. Killing the
	// server loses no commit either way. Default off.
	Durable bool
	// MaxConnections is max_connections. Default 300.
	MaxConnections int
	// Settings are further server settings by name; they win over the defaults,
	// among them wal_level=logical and max_prepared_transactions=100.
	Settings map[string]string
	// Port to listen on. Default: a free one.
	Port int
}

// PostgresServer is a Postgres server. Its superuser is postgres, without a password.
type PostgresServer struct {
	*Server
	dsn, admin string
}

// DSN is the URL of an empty database of the server, called millrace.
func (p *PostgresServer) DSN() string { return p.dsn }

// StartPostgres starts a private Postgres server with a database of its own in a
// temporary folder. Binaries come from the machine, or are fetched and kept if
// there are none. ctx bounds the start, not the life of the server.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*PostgresServer, error) {
	if cfg.URL != "" {
		return externalPostgres(ctx, cfg.URL)
	}
	bin, err := fetch.FindPostgres(ctx)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	who, err := proc.Unprivileged()
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	dir, err := proc.MakeDir("postgres")
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	p, err := launchPostgres(ctx, cfg, bin, who, dir)
	if err != nil {
		_ = proc.RemoveDir(dir)
		return nil, err
	}
	return p, nil
}

func launchPostgres(ctx context.Context, cfg PostgresConfig, bin fetch.Postgres, who *proc.Account, dir string) (*PostgresServer, error) {
	if err := who.Own(dir); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	data := filepath.Join(dir, "data")
	err := proc.Run(ctx, who, filepath.Join(bin.Dir, "initdb"), "-D", data, "-U", "postgres", "-A", "trust",
		"-E", "UTF8", "--locale=C", "--no-sync")
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	port, err := portOr(cfg.Port)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	p := &PostgresServer{dsn: localDSN(port, "millrace"), admin: localDSN(port, "postgres")}
	info := Info{Name: "postgres", Kind: Real, Version: bin.Version, How: bin.How}
	p.Server = newServer(info, proc.Loopback(port), dir, &proc.Process{
		Account: who, Log: filepath.Join(dir, "log"), StopSignal: "INT", AbortSignal: "QUIT",
		Ready:   func(ctx context.Context) error { return pingPostgres(ctx, p.admin) },
		Crashed: func() { dropSharedMemory(data) },
		Command: func() *exec.Cmd {
			cmd := exec.Command(filepath.Join(bin.Dir, "postgres"), cfg.args(data, port)...)
			cmd.Dir = dir
			return cmd
		},
	})
	if err := p.Start(ctx); err != nil {
		return nil, err
	}
	if err := execPostgres(ctx, p.admin, "CREATE DATABASE millrace"); err != nil {
		return nil, fmt.Errorf("postgres: %w", errors.Join(err, p.Kill()))
	}
	return p, nil
}

// args are the server's arguments.
func (c PostgresConfig) args(data string, port int) []string {
	onOff := map[bool]string{true: "on", false: "off"}
	settings := map[string]string{
		"port": strconv.Itoa(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": "",
		"fsync": onOff[c.Durable], "full_page_writes": onOff[c.Durable],
		"max_connections": "300", "wal_level": "logical", "max_prepared_transactions": "100",
		"shared_buffers": "128MB", "max_wal_size": "2GB", "timezone": "UTC", "log_timezone": "UTC",
	}
	if c.MaxConnections > 0 {
		settings["max_connections"] = strconv.Itoa(c.MaxConnections)
	}
	maps.Copy(settings, c.Settings)
	args := []string{"-D", data}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

// externalPostgres connects to a server that runs already.
func externalPostgres(ctx context.Context, url string) (*PostgresServer, error) {
	u, err := parseURL(url, "postgres", "postgresql")
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	db, err := sql.Open("postgres", url)
	if err != nil {
		return nil, fmt.Errorf("postgres at %s: %w", u.Host, err)
	}
	defer db.Close()
	var version string
	if err := db.QueryRowContext(ctx, "SHOW server_version").Scan(&version); err != nil {
		return nil, fmt.Errorf("postgres at %s: %w", u.Host, err)
	}
	info := Info{Name: "postgres", Kind: External, Version: firstField(version), How: "at " + u.Host}
	return &PostgresServer{Server: runningServer(info, u.Host), dsn: url, admin: url}, nil
}

// dropSharedMemory removes the System V segment that a killed server leaves
// behind. The machine has few of them, and only a restart on the same data would
// free it. The 7th line of postmaster.pid has its key and id.
func dropSharedMemory(data string) {
	b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) < 7 {
		return
	}
	if ids := strings.Fields(lines[6]); len(ids) == 2 {
		_ = exec.Command("ipcrm", "-m", ids[1]).Run() // best effort
	}
}

func localDSN(port int, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Host: proc.Loopback(port), Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

func pingPostgres(ctx context.Context, dsn string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.PingContext(ctx)
}

func execPostgres(ctx context.Context, dsn, statement string) error {
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, statement)
	return err
}
