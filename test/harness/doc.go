// Package harness gives tests, demos and benchmarks the servers that Millrace
// works with, ways to break them, and ways to look at what came out. The page
// docs/harness.md shows how to test a service with it.
//
// # Servers
//
// [NewDatabase], [Brokers], [Topic] and [Redis] use servers that all packages of
// one test run share: the first test that needs one starts it under a supervisor
// process, and it ends a few seconds after the last test process that used it,
// also when that process panicked or was killed. Each test has a database,
// topics, groups and a Redis database of its own. [PrivatePostgres],
// [PrivateKafka] and [PrivateRedis] start servers that one test may pause, kill
// and restart.
//
// A package that uses the harness has
//
//	func TestMain(m *testing.M) { harness.Main(m) }
//
// # Which server serves
//
// The harness takes, in this order: an address in the environment ([EnvPostgres],
// [EnvKafka], [EnvRedis]); a real server started from what is installed; a real
// server that it downloads once (Postgres, and Kafka if there is a Java); an
// in-process twin (kfake, miniredis; Postgres has none). One line on standard
// error names it, and with [EnvRequireReal] set to 1 a twin instead of a missing
// server is an error that says what to install.
package harness
