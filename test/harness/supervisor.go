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

	"github.com/millrace-go/millrace/test/internal/proc"
)

// Shared servers: how the test processes of one run find, keep and end them.
//
// All processes of a run know one folder ([EnvRunDir]). A server called NAME is
// started by a supervisor process, which outlives the test process that asked for
// it. They agree through files of that folder. Locks are flock(2) locks, so the
// kernel frees them however a process ends.
//
//	NAME.start  lock, exclusive   held by the client that looks for the server and
//	                              starts the supervisor if there is none, and by a
//	                              supervisor that is about to stop its server
//	NAME.alive  lock, exclusive   held by the supervisor for its whole life
//	NAME.json   file              kind, address and pid of the server, written once
//	                              the server answers
//	NAME.log    file              what the supervisor said
//	use         lock, shared      held by every client until it ends, and by the
//	                              script that runs the tests
//	over        file              the script has ended: no client will come
//	servers     file              one line for each server, for the script's summary
//
// A client (attach) takes NAME.start, then use, then reads NAME.json if NAME.alive
// is held, and starts a supervisor otherwise; then it frees NAME.start and keeps
// use. A supervisor (supervise) takes NAME.alive, starts the server, writes
// NAME.json and checks four times a second whether any process holds use. If none has
// for idleTimeout, or over exists, it takes NAME.start and checks once more: a
// client that came in between holds NAME.start or use, and the server stays. If
// none came, it stops the server while it holds NAME.start, so that the next
// client waits and then starts a new one. A supervisor whose folder disappears, or
// that gets SIGTERM, stops its server at once.

const roleSupervisor = "supervisor"

// idleTimeout is how long a shared server stays up without a client.
var idleTimeout = 5 * time.Second

func init() { proc.PlayRole(roleSupervisor, runSupervisor) }

// startSupervisor starts the supervisor of the named server and waits for the
// server's address. The caller holds NAME.start.
func startSupervisor(ctx context.Context, dir, name string) (address, error) {
	addressFile, logFile := filepath.Join(dir, name+".json"), filepath.Join(dir, name+".log")
	if err := os.RemoveAll(addressFile); err != nil {
		return address{}, err
	}
	log, err := os.Create(logFile)
	if err != nil {
		return address{}, err
	}
	cmd := proc.RoleCommand(roleSupervisor, dir, name)
	cmd.Stdout, cmd.Stderr = log, log
	err = cmd.Start()
	_ = log.Close()
	if err != nil {
		return address{}, fmt.Errorf("%s: start its supervisor: %w", name, err)
	}
	pid := cmd.Process.Pid
	_ = cmd.Process.Release()
	for {
		if a, ok := readAddress(dir, name); ok {
			return a, nil
		}
		if !proc.Alive(pid) {
			return address{}, fmt.Errorf("%s: its supervisor ended, saying:\n%s", name, proc.Tail(logFile))
		}
		select {
		case <-ctx.Done():
			return address{}, fmt.Errorf("%s: %w; its supervisor said:\n%s", name, ctx.Err(), proc.Tail(logFile))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// runSupervisor is the whole life of a supervisor process.
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

// supervise starts the server, writes its address, and stops it when no client has
// used the folder for a while.
func supervise(dir, name string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	alive, err := proc.Acquire(ctx, filepath.Join(dir, name+".alive"))
	if err != nil {
		return err
	}
	defer alive.Close()
	s, a, err := startShared(ctx, name)
	if err != nil {
		return err
	}
	addressFile := filepath.Join(dir, name+".json")
	if err := writeAddress(addressFile, a); err != nil {
		return err
	}
	starting, unused := awaitUnused(ctx, dir, name)
	if !unused {
		_ = os.Remove(addressFile) // a client may come at any moment
		return s.Stop(context.WithoutCancel(ctx))
	}
	defer starting.Close()
	err = s.Stop(context.WithoutCancel(ctx))
	_ = os.Remove(addressFile) // the script waits for this
	return err
}

// startShared starts a real server.
func startShared(ctx context.Context, name string) (*Server, address, error) {
	switch name {
	case "postgres":
		p, err := StartPostgres(ctx, PostgresConfig{})
		if err != nil {
			return nil, address{}, err
		}
		return p.Server, address{Info: p.info, URL: p.admin, PID: p.PID()}, nil
	case "kafka":
		k, err := StartKafka(ctx, KafkaConfig{Real: true})
		if err != nil {
			return nil, address{}, err
		}
		return k.Server, address{Info: k.info, URL: k.addr, PID: k.PID()}, nil
	case "redis":
		r, err := StartRedis(ctx, RedisConfig{Real: true})
		if err != nil {
			return nil, address{}, err
		}
		return r.Server, address{Info: r.info, URL: r.url, PID: r.PID()}, nil
	}
	return nil, address{}, fmt.Errorf("no server is called %q", name)
}

func writeAddress(path string, a address) error {
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", b, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// awaitUnused returns true and the lock NAME.start when no client has used the
// folder for idleTimeout, or the run is over and no client is left. It returns
// false if ctx ends or the folder is gone.
func awaitUnused(ctx context.Context, dir, name string) (starting *os.File, unused bool) {
	lastUse := time.Now()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, false
		case <-tick.C:
		}
		if !proc.IsDir(dir) {
			return nil, false
		}
		if inUse(dir) {
			lastUse = time.Now()
			continue
		}
		if time.Since(lastUse) < idleTimeout && !runIsOver(dir) {
			continue
		}
		starting, ok, _ := proc.TryLock(filepath.Join(dir, name+".start"), true)
		if !ok {
			continue
		}
		if !inUse(dir) {
			return starting, true
		}
		_ = starting.Close()
	}
}

// inUse reports whether any process holds the lock use.
func inUse(dir string) bool {
	f, free, err := proc.TryLock(filepath.Join(dir, "use"), true)
	if free {
		_ = f.Close()
	}
	return !free && err == nil
}

// runIsOver reports whether the script has declared the end of the run.
func runIsOver(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "over"))
	return err == nil
}
