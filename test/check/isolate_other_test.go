//go:build !linux

package check

func (s *stage) isolate(string) bool { return false }
