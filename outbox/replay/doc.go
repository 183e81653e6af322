// Package replay publishes messages of the log again: one key, one aggregate, a
// range of positions or of time, to their own topic or to another one.
//
// [New] returns a [Replayer]. Its Plan counts what would be sent, its Run sends it.
// Messages are there to be replayed for as long as the log's retention keeps them.
package replay
