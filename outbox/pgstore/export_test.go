package pgstore

// EncodeGaps is encodeGaps, for the tests of package pgstore_test.
var EncodeGaps = encodeGaps
