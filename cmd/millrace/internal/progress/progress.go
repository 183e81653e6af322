// Package progress shows how far a command is: one line that changes on a
// terminal, a line every few seconds elsewhere.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// every is the shortest time between two lines where lines cannot be rewritten.
const every = 5 * time.Second

// Line is a line of progress on w. Its methods are safe for concurrent use.
type Line struct {
	w        io.Writer
	terminal bool

	mu    sync.Mutex
	last  time.Time
	dirty bool // the terminal's current line holds progress
}

// New returns a Line on w.
func New(w io.Writer) *Line {
	f, ok := w.(*os.File)
	return &Line{w: w, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

// Show replaces the line. Where lines cannot be replaced it drops what comes
// sooner than five seconds after the last.
func (l *Line) Show(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.terminal {
		fmt.Fprintf(l.w, "\r\x1b[K"+format, args...)
		l.dirty = true
		return
	}
	if now := time.Now(); now.Sub(l.last) >= every {
		l.last = now
		fmt.Fprintf(l.w, format+"\n", args...)
	}
}

// Say writes a line that stays.
func (l *Line) Say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wipe()
	fmt.Fprintf(l.w, format+"\n", args...)
}

// Done removes the line that changes.
func (l *Line) Done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wipe()
}

func (l *Line) wipe() {
	if l.dirty {
		fmt.Fprint(l.w, "\r\x1b[K")
		l.dirty = false
	}
}
