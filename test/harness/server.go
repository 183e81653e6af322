package harness

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/millrace-go/millrace/test/internal/proc"
)

// ErrUnsupported is returned for a fault that the kind of server cannot be put
// into: twins cannot be paused, external servers cannot be touched.
var ErrUnsupported = proc.ErrUnsupported

// backend is what serves: a process, an in-process twin, or a server that was there before.
type backend interface {
	Start(ctx context.Context) error // serves and answers when it returns
	Stop(ctx context.Context) error  // clean end
	Kill() error                     // end without a clean shutdown
	Pause() error
	Resume() error
	PID() int // 0 if there is no process
}

// Server is what the three servers have in common. Its methods are safe for
// concurrent use.
type Server struct {
	info Info
	addr string
	dir  string // removed by Stop, if not empty

	mu      sync.Mutex
	backend backend
	up      bool
}

// newServer is a server that Start will start, with its data in dir.
func newServer(info Info, addr, dir string, b backend) *Server {
	return &Server{info: info, addr: addr, dir: dir, backend: b}
}

// runningServer is a server that another process started and stops.
func runningServer(info Info, addr string) *Server {
	return &Server{info: info, addr: addr, backend: external{}, up: true}
}

// Addr is the server's host:port. It stays the same over restarts.
func (s *Server) Addr() string { return s.addr }

// Info says which server serves.
func (s *Server) Info() Info { return s.info }

// PID is the id of the server's main process, 0 if it has none or is down.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.backend.PID()
}

// Pause freezes all of the server's processes (SIGSTOP): connections stay open
// and nothing answers until Resume.
func (s *Server) Pause() error { return s.do("pause", s.backend.Pause) }

// Resume lets a paused server continue.
func (s *Server) Resume() error { return s.do("resume", s.backend.Resume) }

// Kill ends the server at once (SIGKILL to all its processes); its data stay as
// the crash left them. Start brings it back.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.up {
		return nil
	}
	if err := s.backend.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", s.info.Name, err)
	}
	s.up = false
	return nil
}

// Start starts a server that was killed or shut down, on the same address and
// data, and returns when it answers. It does nothing if the server is up.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.up {
		return nil
	}
	if err := s.backend.Start(ctx); err != nil {
		return fmt.Errorf("start %s: %w", s.info.Name, err)
	}
	s.up = true
	return nil
}

// Shutdown ends the server cleanly and keeps its data for Start.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.up {
		return nil
	}
	s.up = false
	if err := s.backend.Stop(ctx); err != nil {
		return fmt.Errorf("stop %s: %w", s.info.Name, err)
	}
	return nil
}

// Restart is Shutdown and Start.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Shutdown(ctx); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Stop ends the server and removes its data. An external server is left alone.
func (s *Server) Stop(ctx context.Context) error {
	err := s.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.Kill())
	}
	if s.dir != "" {
		err = errors.Join(err, proc.RemoveDir(s.dir))
	}
	return err
}

func (s *Server) do(what string, act func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := act(); err != nil {
		return fmt.Errorf("%s %s: %w", what, s.info.Name, err)
	}
	return nil
}

// external is the backend of a server that the harness did not start.
type external struct{}

func (external) Start(context.Context) error { return ErrUnsupported }
func (external) Stop(context.Context) error  { return nil }
func (external) Kill() error                 { return ErrUnsupported }
func (external) Pause() error                { return ErrUnsupported }
func (external) Resume() error               { return ErrUnsupported }
func (external) PID() int                    { return 0 }
