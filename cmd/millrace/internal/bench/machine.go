package bench

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Machine says where the figures come from, and how much of the machine was
// somebody else's while they were taken.
type Machine struct {
	CPUs      int     `json:"cpus"`
	CPU       string  `json:"cpu,omitempty"`
	MemoryGiB float64 `json:"memory_gib,omitempty"`
	OS        string  `json:"os"`
	Go        string  `json:"go"`

	// Shares of all processor time during the run, in percent. Steal is what a
	// hypervisor gave to others: figures taken beside much of it say little.
	StealPercent *float64 `json:"steal_percent,omitempty"`
	IdlePercent  *float64 `json:"idle_percent,omitempty"`
	LoadBefore   string   `json:"load_before,omitempty"`
	LoadAfter    string   `json:"load_after,omitempty"`
}

// watch is the machine at the start of a run.
type watch struct {
	machine Machine
	times   processorTimes
}

func startWatch() *watch {
	m := Machine{CPUs: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), LoadBefore: load()}
	m.CPU = procField("/proc/cpuinfo", "model name")
	if kib, err := strconv.ParseFloat(strings.TrimSuffix(procField("/proc/meminfo", "MemTotal"), " kB"), 64); err == nil {
		m.MemoryGiB = round1(kib / (1 << 20))
	}
	return &watch{m, readProcessorTimes()}
}

// stop returns the machine as it was during the run.
func (w *watch) stop() Machine {
	m, now := w.machine, readProcessorTimes()
	m.LoadAfter = load()
	if all := now.all - w.times.all; all > 0 {
		share := func(part float64) *float64 { p := round2(100 * part / all); return &p }
		m.StealPercent, m.IdlePercent = share(now.steal-w.times.steal), share(now.idle-w.times.idle)
	}
	return m
}

// processorTimes are sums over all processors, in clock ticks since boot.
type processorTimes struct{ idle, steal, all float64 }

func readProcessorTimes() (t processorTimes) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return t
	}
	line, _, _ := strings.Cut(string(text), "\n") // cpu user nice system idle iowait irq softirq steal guest…
	for i, field := range strings.Fields(line) {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil || i > 8 { // guest time is part of user time
			continue
		}
		t.all += n
		switch i {
		case 4, 5:
			t.idle += n
		case 8:
			t.steal = n
		}
	}
	return t
}

// load is the load average over the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	one, _, _ := strings.Cut(string(text), " ")
	return one
}

// procField returns the first value of name in a Linux "name: value" file, and
// nothing elsewhere.
func procField(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
