// Report turns the stream of go test -json into a report that a person can read:
// a line a package, the output of what failed, the servers that served, every
// skipped test with its reason, and the sums in the last line. It ends with code
// 1 if anything failed or nothing ran.
//
//	go test -json ./... | go run ./test/report
package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"time"
)

// progressEvery is how often packages that take long are mentioned.
const progressEvery = 15 * time.Second

func main() { os.Exit(run(os.Stdin, os.Stdout, os.Getenv("MILLRACE_RUN_DIR"))) }

// run reports in to out and returns the exit code.
func run(in io.Reader, out io.Writer, runDir string) int {
	r := newReport(out, time.Now)
	lines := make(chan []byte)
	go func() {
		defer close(lines)
		for s := bufio.NewReader(in); ; {
			line, err := s.ReadBytes('\n')
			if len(line) > 0 {
				lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case line, more := <-lines:
			if !more {
				return r.close(runDir)
			}
			var e event
			if err := json.Unmarshal(line, &e); err != nil || e.Action == "" {
				r.plain(string(line))
				continue
			}
			r.take(e)
		case <-tick.C:
			r.progress()
		}
	}
}
