package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// selfPath starts this program again, also after its file was deleted.
const selfPath = "/proc/self/exe"

// descendants lists the living children of pid and theirs.
func descendants(pid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	for _, e := range entries {
		if p, err := strconv.Atoi(e.Name()); err == nil {
			if _, parent, ok := stat(p); ok {
				children[parent] = append(children[parent], p)
			}
		}
	}
	return collect(children, pid)
}

// Alive reports whether the process exists and is not a zombie.
func Alive(pid int) bool {
	state, _, ok := stat(pid)
	return ok && state != "Z" && state != "X"
}

// frozen reports whether no thread of the process runs any more.
func frozen(pid int) bool {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return true // it has ended
	}
	for _, thread := range threads {
		state, _, ok := statOf(fmt.Sprintf("/proc/%d/task/%s/stat", pid, thread.Name()))
		if ok && !strings.Contains("TtZX", state) {
			return false
		}
	}
	return true
}

// stat reads state and parent of a process. Its name, which comes before them in
// brackets, may hold spaces and brackets itself.
func stat(pid int) (state string, parent int, ok bool) {
	return statOf(fmt.Sprintf("/proc/%d/stat", pid))
}

func statOf(file string) (state string, parent int, ok bool) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", 0, false
	}
	_, rest, ok := cutLast(string(b), ")")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 2 {
		return "", 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return fields[0], parent, err == nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
