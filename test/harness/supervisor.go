package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// linger is how long a shared server waits for its next client.
var linger = 5 * time.Second

// startSupervisor starts the supervisor of the named server and waits for the
// address. The caller holds the server's start lock.
func startSupervisor(ctx context.Context, dir, name string) (ticket, error) {
	ticketFile, logFile := filepath.Join(dir, name+".json"), filepath.Join(dir, name+".log")
	if err := os.RemoveAll(ticketFile); err != nil {
		return ticket{}, err
	}
	log, err := os.Create(logFile)
	if err != nil {
		return ticket{}, err
	}
	cmd := roleCommand(roleSupervisor, dir, name)
	cmd.Stdout, cmd.Stderr = log, log
	err = cmd.Start()
	_ = log.Close()
	if err != nil {
		return ticket{}, fmt.Errorf("%s: start its supervisor: %w", name, err)
	}
	pid := cmd.Process.Pid
	_ = cmd.Process.Release()
	for {
		if t, ok := readTicket(dir, name); ok {
			return t, nil
		}
		if !alive(pid) {
			return ticket{}, fmt.Errorf("%s: its supervisor ended, saying:\n%s", name, tail(logFile))
		}
		select {
		case <-ctx.Done():
			return ticket{}, fmt.Errorf("%s: %w; its supervisor said:\n%s", name, ctx.Err(), tail(logFile))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// runSupervisor is a supervisor's life: start the server, leave its address,
// stop it when nobody has been there for a while.
func runSupervisor(args []string) int {
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, "the harness starts this role by itself")
		return 2
	}
	signal.Ignore(os.Interrupt, syscall.SIGHUP)
	if err := supervise(args[0], args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func supervise(dir, name string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	alive, err := acquire(ctx, filepath.Join(dir, name+".alive"))
	if err != nil {
		return err
	}
	defer alive.Close()
	s, t, err := startShared(ctx, name)
	if err != nil {
		return err
	}
	ticketFile := filepath.Join(dir, name+".json")
	if err := writeTicket(ticketFile, t); err != nil {
		return err
	}
	starting := awaitAbsence(ctx, dir, name)
	if starting == nil {
		_ = os.Remove(ticketFile) // a client may come at any moment
		return s.Stop(context.WithoutCancel(ctx))
	}
	defer starting.Close()
	err = s.Stop(context.WithoutCancel(ctx))
	_ = os.Remove(ticketFile) // the runner waits for this
	return err
}

// startShared starts a server that is real.
func startShared(ctx context.Context, name string) (*server, ticket, error) {
	switch name {
	case "postgres":
		p, err := StartPostgres(ctx, PostgresConfig{})
		if err != nil {
			return nil, ticket{}, err
		}
		return &p.server, ticket{Info: p.info, Address: p.admin, PID: p.PID()}, nil
	case "kafka":
		k, err := StartKafka(ctx, KafkaConfig{Real: true})
		if err != nil {
			return nil, ticket{}, err
		}
		return &k.server, ticket{Info: k.info, Address: k.addr, PID: k.PID()}, nil
	case "redis":
		r, err := StartRedis(ctx, RedisConfig{Real: true})
		if err != nil {
			return nil, ticket{}, err
		}
		return &r.server, ticket{Info: r.info, Address: r.url, PID: r.PID()}, nil
	}
	return nil, ticket{}, fmt.Errorf("no server is called %q", name)
}

func writeTicket(path string, t ticket) error {
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", b, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// awaitAbsence returns when nobody has used the folder's servers for the linger,
// or the run is over. It holds the start lock then, so that a client who comes
// now waits until the server is gone and starts a new one.
func awaitAbsence(ctx context.Context, dir, name string) *os.File {
	seen := time.Now()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !isDir(dir) {
			return nil
		}
		if occupied(dir) {
			seen = time.Now()
			continue
		}
		if time.Since(seen) < linger && !over(dir) {
			continue
		}
		starting, ok, _ := tryLock(filepath.Join(dir, name+".start"), true)
		if !ok {
			continue
		}
		if !occupied(dir) {
			return starting
		}
		_ = starting.Close()
	}
}

// occupied reports whether any process holds the lock of those present.
func occupied(dir string) bool {
	f, free, err := tryLock(filepath.Join(dir, "use"), true)
	if free {
		_ = f.Close()
	}
	return !free && err == nil
}

// over reports whether the runner has declared the end of the run.
func over(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "over"))
	return err == nil
}
