package harness

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Main runs a package's tests, releases the servers of the run, and fails the
// package if its tests passed but left goroutines behind. It does not return.
//
//	func TestMain(m *testing.M) { harness.Main(m) }
func Main(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	code := m.Run()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := shared.release(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
	}
	if code != 0 {
		return code
	}
	allowed := []goleak.Option{
		// Sarama's metrics keep one clock for the life of the process.
		goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"),
		// go-redis notices only up to a second after Close that it need not dial a dead server again.
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"),
		// Watermill's test suite leaves these when a message comes once more after it has stopped reading.
		goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill/internal/subscriber.(*multiplier).Subscribe.func2"),
		goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill/internal/subscriber.(*multiplier).Subscribe.func3"),
	}
	// A goroutine that ends by itself is not a leak, however slow the machine is.
	if err := Until(ctx, 20*time.Second, func(context.Context) error { return goleak.Find(allowed...) }); err != nil {
		fmt.Fprintln(os.Stderr, "harness: goroutines were left behind:", err)
		return 1
	}
	return code
}
