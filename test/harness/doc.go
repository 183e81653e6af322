// Package harness gives tests, demos and benchmarks the servers that Millrace
// works with, ways to break them, and ways to look at what came out.
//
// Servers. [NewDatabase], [Brokers], [Topic] and [Redis] use servers that all
// packages of one test run share: the first test that needs one starts it under
// a supervisor process, and it is gone a few seconds after the last test process
// that used it, also when that process panicked or was killed. Each test has a
// database, topics, groups and a Redis database of its own. [StartPostgres],
// [StartKafka] and [StartRedis] start private servers that may be paused,
// killed and restarted.
//
// Which server serves is decided in this order: an address in the environment
// ([EnvPostgres], [EnvKafka], [EnvRedis]); a real server started from what is
// installed; an in-process twin (kfake, miniredis; Postgres has none). One line
// on standard error names it, and with [EnvRequireReal] set to 1 falling back to
// a twin is an error that says what to install.
//
// A package that uses the harness has
//
//	func TestMain(m *testing.M) { harness.Main(m) }
package harness
