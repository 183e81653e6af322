package jobmetrics_test

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/telemetry/jobmetrics"
)

// The metrics count what a locker does.
func Example() {
	registry := prometheus.NewRegistry()
	metrics, err := jobmetrics.New(registry)
	if err != nil {
		fmt.Println(err)
		return
	}
	locker, err := lock.NewLocker(lock.NewMemory(), lock.Config{Hooks: metrics.Hooks()})
	if err != nil {
		fmt.Println(err)
		return
	}
	locker.Do(context.Background(), lock.Lock{Name: "report", AtMostFor: time.Minute}, func(context.Context) error { return nil })
	families, err := registry.Gather()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range families {
		if f.GetName() == "job_lock_acquired_total" {
			fmt.Println(f.GetName(), f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	// Output: job_lock_acquired_total 1
}
