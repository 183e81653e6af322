package deadletter

// Matches is matches, for tests.
func (f *Filter) Matches(m *Message) bool { return f.matches(m) }
