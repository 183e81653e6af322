package harness

import (
	"os"
	"strconv"
	"strings"

	"github.com/millrace-go/millrace/test/internal/fetch"
	"github.com/millrace-go/millrace/test/internal/proc"
)

// Environment variables that the harness reads.
const (
	// EnvPostgres is the URL of a Postgres server whose user may create databases.
	EnvPostgres = "MILLRACE_POSTGRES_URL"
	// EnvKafka is a comma-separated list of Kafka brokers, host:port.
	EnvKafka = "MILLRACE_KAFKA_BROKERS"
	// EnvRedis is the URL of a Redis server, redis://host:port. Its logical
	// databases from 1 up are flushed by the tests.
	EnvRedis = "MILLRACE_REDIS_URL"
	// EnvRequireReal set to 1 makes it an error to fall back to a twin. A twin
	// that a config asks for by name is still granted.
	EnvRequireReal = "MILLRACE_REQUIRE_REAL"
	// EnvRunDir is the folder through which the test processes of one run share
	// servers. Unset, processes of one user share a folder in the temp dir.
	EnvRunDir = proc.EnvRunDir
	// EnvKafkaHome is a Kafka installation, or a folder with its jars, that is
	// used instead of downloaded jars.
	EnvKafkaHome = fetch.EnvKafkaHome
	// EnvMavenRepository is the URL of a mirror of Maven Central, from which
	// Postgres and Kafka are downloaded.
	EnvMavenRepository = fetch.EnvMavenRepository
)

// requireReal reports whether EnvRequireReal asks for real servers only.
func requireReal() bool {
	on, err := strconv.ParseBool(os.Getenv(EnvRequireReal))
	return err == nil && on
}

// brokersFromEnv splits EnvKafka; nil if it is unset.
func brokersFromEnv() []string {
	var brokers []string
	for b := range strings.SplitSeq(os.Getenv(EnvKafka), ",") {
		if b = strings.TrimSpace(b); b != "" {
			brokers = append(brokers, b)
		}
	}
	return brokers
}
