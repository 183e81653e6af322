package kafka

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/IBM/sarama"

	"github.com/millrace-go/millrace/outbox/record"
)

const (
	fetchSize    = 1 << 20
	maxFetchSize = 128 << 20
)

var (
	errNoProgress = errors.New("the broker has no more records there")
	errOldFormat  = errors.New("records of a format older than Kafka 0.11 cannot be read")
)

// rangeReader reads a range of offsets with plain fetches. A Sarama consumer would
// wait forever where a range ends in something that it does not deliver, for example
// a transaction marker.
type rangeReader struct {
	topic     string
	partition int32
	next, end int64
	size      int32 // to ask for; grows when a batch does not fit
	fn        func(rec *record.Record, value []byte) error
}

func (r *rangeReader) fetch(client sarama.Client) (*sarama.FetchResponseBlock, error) {
	leader, err := client.Leader(r.topic, r.partition)
	if err != nil {
		return nil, err
	}
	req := &sarama.FetchRequest{
		Version: 11, MinBytes: 1, MaxWaitTime: 250, MaxBytes: maxFetchSize,
		Isolation: sarama.ReadCommitted, SessionEpoch: -1,
	}
	req.AddBlock(r.topic, r.partition, r.next, r.size, -1)
	res, err := leader.Fetch(req)
	if err != nil {
		_ = leader.Close() // it may be half-way through an answer
		return nil, err
	}
	block := res.GetBlock(r.topic, r.partition)
	switch {
	case block == nil:
		return nil, sarama.ErrIncompleteResponse
	case block.Err == sarama.ErrOffsetOutOfRange:
		return block, r.skipRemoved(client)
	}
	return block, kerror(block.Err)
}

// skipRemoved skips the records that retention has removed.
func (r *rangeReader) skipRemoved(client sarama.Client) error {
	oldest, err := offsetAt(client, r.topic, r.partition, sarama.OffsetOldest)
	if err != nil {
		return err
	}
	if oldest <= r.next {
		return sarama.ErrOffsetOutOfRange // the topic was created again, or truncated
	}
	r.next = min(oldest, r.end)
	return nil
}

// deliver passes the records of one answer to fn.
func (r *rangeReader) deliver(block *sarama.FetchResponseBlock) error {
	aborted := slices.Clone(block.AbortedTransactions)
	slices.SortFunc(aborted, func(a, b *sarama.AbortedTransaction) int { return int(a.FirstOffset - b.FirstOffset) })
	ignored := map[int64]bool{} // producers whose current transaction was aborted
	for _, records := range block.RecordsSet {
		batch := records.RecordBatch
		switch {
		case batch == nil && records.MsgSet != nil && len(records.MsgSet.Messages) > 0:
			return errOldFormat
		case batch == nil:
			continue
		case batch.PartialTrailingRecord:
			r.size = min(2*r.size, maxFetchSize)
			return nil
		}
		for len(aborted) > 0 && aborted[0].FirstOffset <= batch.LastOffset() {
			ignored[aborted[0].ProducerID] = true
			aborted = aborted[1:]
		}
		if batch.Control {
			if isAbort(batch) {
				delete(ignored, batch.ProducerID)
			}
		} else if !batch.IsTransactional || !ignored[batch.ProducerID] {
			if err := r.deliverBatch(batch); err != nil {
				return err
			}
		}
		if r.next = max(r.next, min(batch.LastOffset()+1, r.end)); r.next == r.end {
			return nil
		}
	}
	return nil
}

func (r *rangeReader) deliverBatch(batch *sarama.RecordBatch) error {
	for _, rec := range batch.Records {
		offset := batch.FirstOffset + rec.OffsetDelta
		if offset < r.next || offset >= r.end {
			continue
		}
		timestamp := batch.FirstTimestamp.Add(rec.TimestampDelta)
		if batch.LogAppendTime {
			timestamp = batch.MaxTimestamp
		}
		out := &record.Record{
			Topic: r.topic, Partition: r.partition, Offset: offset, Timestamp: timestamp,
			Key: rec.Key, Headers: make([]record.Header, len(rec.Headers)),
		}
		for i, h := range rec.Headers {
			out.Headers[i] = record.Header{Key: string(h.Key), Value: h.Value}
		}
		if err := r.fn(out, rec.Value); err != nil {
			return err
		}
		r.next = offset + 1
	}
	return nil
}

// isAbort reads a control record's key: a version and a type, 0 for abort.
func isAbort(batch *sarama.RecordBatch) bool {
	if len(batch.Records) == 0 || len(batch.Records[0].Key) < 4 {
		return false
	}
	return binary.BigEndian.Uint16(batch.Records[0].Key[2:]) == 0
}
