package harness_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// envClient makes this test binary a process that has a server and then waits
// for its end: a test process to be killed.
const envClient = "HARNESS_TEST_CLIENT"

func TestMain(m *testing.M) {
	if what := os.Getenv(envClient); what != "" {
		if err := client(what); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		select {}
	}
	harness.Main(m)
}

// client starts what is asked for and prints address, process id and folder.
func client(what string) error {
	switch what {
	case "shared-redis":
		r, err := harness.SharedRedis(context.Background())
		if err != nil {
			return err
		}
		fmt.Println("serving", r.Addr(), 0, "-")
	case "private-postgres":
		p, err := harness.StartPostgres(context.Background(), harness.PostgresConfig{})
		if err != nil {
			return err
		}
		fmt.Println("serving", p.Addr(), p.PID(), p.DataDir())
	case "private-kafka":
		k, err := harness.StartKafka(context.Background(), harness.KafkaConfig{Real: true})
		if err != nil {
			return err
		}
		fmt.Println("serving", k.Addr(), k.PID(), k.DataDir())
	case "ports":
		for range manyPorts {
			port, err := lab.FreePort()
			if err != nil {
				return err
			}
			fmt.Println("port", port)
		}
		fmt.Println("serving -", 0, "-")
	}
	return nil
}
