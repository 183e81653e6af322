package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

// terminal is a terminal for a command to write to. screen ends it and returns
// everything that was written.
func terminal(t *testing.T) (tty *os.File, screen func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	var unlocked, number int32
	for request, value := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlocked, syscall.TIOCGPTN: &number} {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), request, uintptr(unsafe.Pointer(value)))
		require.Zero(t, errno)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	shown := make(chan string, 1)
	go func() {
		var b strings.Builder
		for buf := make([]byte, 4096); ; {
			n, err := master.Read(buf)
			b.Write(buf[:n])
			if err != nil { // the last writer has closed the terminal
				shown <- b.String()
				return
			}
		}
	}()
	t.Cleanup(func() { _, _ = tty.Close(), master.Close() })
	return tty, func() string {
		_ = tty.Close()
		return <-shown
	}
}

func TestRebuild_ShowsABarOnATerminal(t *testing.T) {
	t.Parallel()
	db, rdb := harness.NewDatabase(t, migrations.Lines()...), harness.Redis(t)
	env := map[string]string{"DATABASE_URL": db.DSN, "REDIS_URL": redisURL(rdb)}
	requests(t, db, 5000)
	tty, screen := terminal(t)
	var out buffer
	code := Run(context.Background(), []string{"rebuild", "counters", "--batch", "50", "--yes"}, Process{
		Out: &out, Err: tty, Getenv: func(k string) string { return env[k] },
	})
	shown := screen()
	require.Zero(t, code, shown)
	require.Regexp(t, `rebuild counters +\d+% \|.*\| \(\d+/5000\)`, shown)
	require.Contains(t, shown, "\r", "one line that changes")
	require.Contains(t, out.String(), "folded 5000 events")
}
