package harness

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrUnsupported is returned for a fault that the kind of server cannot be put
// into: twins cannot be paused, external servers cannot be touched.
var ErrUnsupported = errors.New("not possible with this kind of server")

// backend is what serves: a process, an in-process twin, or somebody else.
type backend interface {
	start(ctx context.Context) error // serves and answers when it returns
	stop(ctx context.Context) error  // clean end
	kill() error                     // end without any goodbye
	pause() error
	resume() error
	pid() int // 0 if there is no process
}

// server is what the three servers have in common. Its methods are safe for
// concurrent use.
type server struct {
	info Info
	addr string
	dir  string // removed by Stop, if not empty

	mu      sync.Mutex
	backend backend
	up      bool
}

// Addr is the server's host:port. It stays the same over restarts.
func (s *server) Addr() string { return s.addr }

// Info says which server serves.
func (s *server) Info() Info { return s.info }

// PID is the id of the server's main process, 0 if it has none or is down.
func (s *server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.backend.pid()
}

// Pause freezes all of the server's processes (SIGSTOP): connections stay open
// and nothing answers until Resume.
func (s *server) Pause() error { return s.act("pause", s.backend.pause) }

// Resume lets a paused server go on.
func (s *server) Resume() error { return s.act("resume", s.backend.resume) }

// Kill ends the server at once (SIGKILL to all its processes); its data stays as
// the crash left it. Start brings it back.
func (s *server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.up {
		return nil
	}
	if err := s.backend.kill(); err != nil {
		return fmt.Errorf("kill %s: %w", s.info.Name, err)
	}
	s.up = false
	return nil
}

// Start starts a server that was killed or shut down, on the same address and
// data, and returns when it answers. It does nothing if the server is up.
func (s *server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.up {
		return nil
	}
	if err := s.backend.start(ctx); err != nil {
		return fmt.Errorf("start %s: %w", s.info.Name, err)
	}
	s.up = true
	return nil
}

// Shutdown ends the server cleanly and keeps its data for Start.
func (s *server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.up {
		return nil
	}
	s.up = false
	if err := s.backend.stop(ctx); err != nil {
		return fmt.Errorf("stop %s: %w", s.info.Name, err)
	}
	return nil
}

// Restart is Shutdown and Start.
func (s *server) Restart(ctx context.Context) error {
	if err := s.Shutdown(ctx); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Stop ends the server and removes its data. An external server is left alone.
func (s *server) Stop(ctx context.Context) error {
	err := s.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.Kill())
	}
	if s.dir != "" {
		err = errors.Join(err, removeDir(s.dir))
	}
	return err
}

func (s *server) act(what string, do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := do(); err != nil {
		return fmt.Errorf("%s %s: %w", what, s.info.Name, err)
	}
	return nil
}

// external is the backend of a server that was there before.
type external struct{}

func (external) start(context.Context) error { return ErrUnsupported }
func (external) stop(context.Context) error  { return nil }
func (external) kill() error                 { return ErrUnsupported }
func (external) pause() error                { return ErrUnsupported }
func (external) resume() error               { return ErrUnsupported }
func (external) pid() int                    { return 0 }
