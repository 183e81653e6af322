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

// Alive reports whether the process exists and is no zombie.
func Alive(pid int) bool {
	state, _, ok := stat(pid)
	return ok && state != "Z" && state != "X"
}

// stat reads state and parent of a process. Its name, which comes before them in
// brackets, may hold spaces and brackets itself.
func stat(pid int) (state string, parent int, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
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
