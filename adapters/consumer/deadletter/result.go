package deadletter

// Result counts dead letters. Those that are not counted as resolved, now or
// earlier, stay open and can be worked on later.
type Result struct {
	ID      string // Config.ID
	Action  Action
	Preview bool  // nothing was changed: the counts say what would be
	Total   int64 // offsets from the start of the scan to its end
	Scanned int64 // offsets passed so far
	Open    int   // open dead letters that were met

	// Resolved, or would be according to a preview.
	Replayed   int
	Skipped    int
	Discarded  int
	Parked     int // asked for, or because they were replayed MaxReplays times before
	Duplicates int // second copies of a dead letter, resolved with the first

	// Left open.
	Filtered int // not chosen by the filter, or beyond Max
	Capped   int // replayed MaxReplays times before, and there is no parking topic
	Refused  int // of a foreign origin, of no known group, without their value, or refused by the broker
	Held     int // behind a refused dead letter of their partition, or of their key with ByKey

	// Stopped are the partitions whose work ended at a dead letter.
	Stopped []Stop
}

// Stop is the dead letter at which the work on a partition ended.
type Stop struct {
	Partition int32
	Offset    int64
	Reason    string
}

// Resolved is how many dead letters were resolved, or would be according to a
// preview.
func (r *Result) Resolved() int {
	return r.Replayed + r.Skipped + r.Discarded + r.Parked + r.Duplicates
}
