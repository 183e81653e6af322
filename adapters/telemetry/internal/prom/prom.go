// Package prom has what the metrics of all parts share: registration of all or
// nothing, and the buckets of short times.
package prom

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Seconds are the buckets of what one step takes, from a local database to a
// broker far away.
var Seconds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// Register registers all collectors with reg, or none and returns an error that
// begins with the name of what they measure.
func Register(reg prometheus.Registerer, name string, collectors ...prometheus.Collector) error {
	if reg == nil {
		return errors.New(name + ": registerer: must not be nil")
	}
	for i, c := range collectors {
		if err := reg.Register(c); err != nil {
			for _, done := range collectors[:i] {
				reg.Unregister(done)
			}
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
