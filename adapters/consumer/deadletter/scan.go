package deadletter

import (
	"context"
	"maps"
	"slices"
)

// scan is one partition's part of an operation.
type scan struct {
	partition int32
	first     int64 // that the topic still has
	from, end int64 // to read
	recent    *recentMessages
	progress  progress
	committed progress // what was committed last

	// Of the recording goroutine: everything below passed is counted, tail follows
	// the last dead letter, and tailResolved says whether that one is resolved.
	passed, tail int64
	tailResolved bool
}

// plan fixes the bounds and the earlier progress of the partitions that the filter
// admits.
func plan(ctx context.Context, topic string, reader Reader, cfg *Config) ([]*scan, error) {
	first, end, err := reader.Bounds(ctx, topic)
	if err != nil {
		return nil, err
	}
	offsets, metadata, err := reader.Progress(ctx, topic, cfg.ProgressGroup)
	if err != nil {
		return nil, err
	}
	var scans []*scan
	for _, partition := range slices.Sorted(maps.Keys(end)) {
		if len(cfg.Filter.Partitions) > 0 && !slices.Contains(cfg.Filter.Partitions, partition) {
			continue
		}
		s := &scan{partition: partition, first: first[partition], end: end[partition], recent: newRecentMessages()}
		s.progress.low = s.first
		// A commit beyond the end belongs to an earlier topic of this name.
		if low, ok := offsets[partition]; ok && low <= s.end {
			if s.progress, err = decodeProgress(low, metadata[partition]); err != nil {
				return nil, err
			}
			s.progress.add(low, max(low, s.first)) // retention has removed what is between
		}
		s.from = max(s.first, s.progress.low, cfg.Filter.FromOffset)
		if to := cfg.Filter.ToOffset; to > 0 {
			s.end = min(s.end, to)
		}
		s.committed, s.passed, s.tail = s.progress.clone(), s.from, s.from
		s.tailResolved = s.progress.has(s.from - 1)
		scans = append(scans, s)
	}
	return scans, nil
}

// recentSize is how many dead letters back a second copy of one is looked for.
// Copies come from a crash between the broker's acknowledgement of a dead letter
// and the commit of its source, so they are close to each other.
const recentSize = 8192

// identity is what two copies of one dead letter have in common.
type identity struct {
	topic     string
	partition int32
	offset    int64
	group     string
}

// recentMessages knows the last dead letters of a partition.
type recentMessages struct {
	known map[identity]struct{}
	ring  []identity
	at    int
}

func newRecentMessages() *recentMessages { return &recentMessages{known: map[identity]struct{}{}} }

// isCopy remembers m and reports whether the same failure of the same record was
// met before. The origin would not do, since all replays of a message share it.
func (r *recentMessages) isCopy(m *Message) bool {
	if m.FailedRecord == nil {
		return false
	}
	id := identity{m.FailedRecord.Topic, m.FailedRecord.Partition, m.FailedRecord.Offset, m.Group}
	if _, known := r.known[id]; known {
		return true
	}
	r.known[id] = struct{}{}
	if len(r.ring) < recentSize {
		r.ring = append(r.ring, id)
		return false
	}
	delete(r.known, r.ring[r.at])
	r.ring[r.at], r.at = id, (r.at+1)%recentSize
	return false
}
