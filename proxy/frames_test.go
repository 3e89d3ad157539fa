package proxy

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// frame writes a WebSocket frame as RFC 6455, section 5.2, draws it. The size
// of the length field may be larger than the payload needs.
func frame(first byte, payload []byte, lengthBytes int, mask bool) []byte {
	var b bytes.Buffer
	b.WriteByte(first)
	masked := byte(0)
	if mask {
		masked = 0x80
	}
	switch {
	case lengthBytes == 8 || len(payload) > 0xffff:
		b.WriteByte(masked | 127)
		_ = binary.Write(&b, binary.BigEndian, uint64(len(payload)))
	case lengthBytes == 2 || len(payload) > 125:
		b.WriteByte(masked | 126)
		_ = binary.Write(&b, binary.BigEndian, uint16(len(payload)))
	default:
		b.WriteByte(masked | byte(len(payload)))
	}
	if mask {
		b.WriteString("mask")
	}
	b.Write(payload)
	return b.Bytes()
}

// script makes a sequence of frames and returns where they end.
func script(random *rand.Rand) (stream []byte, ends map[int]bool) {
	ends = map[int]bool{0: true}
	for range 1 + random.IntN(6) {
		size := []int{0, 1, 2, 125, 126, 127, 300, 65535, 65536, 70000}[random.IntN(10)]
		payload := make([]byte, size)
		for i := range payload {
			payload[i] = byte(random.Uint32())
		}
		first := []byte{0x81, 0x82, 0x01, 0x00, 0x80, 0x89, 0x8a, 0xc1}[random.IntN(8)]
		stream = append(stream, frame(first, payload, []int{0, 2, 8}[random.IntN(3)], random.IntN(2) == 0)...)
		ends[len(stream)] = true
	}
	return stream, ends
}

func TestFramesAreFollowedThroughChunksCutAnywhere(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 3))
		stream, ends := script(random)
		var f frames
		for at := 0; at < len(stream); {
			if f.atBoundary() != ends[at] {
				t.Fatalf("seed %d: at byte %d a frame's end is taken for %t", seed, at, f.atBoundary())
			}
			n := min(len(stream)-at, 1+random.IntN([]int{1, 20, 100_000}[random.IntN(3)]))
			if got := f.scan(stream[at:at+n], false); got != n {
				t.Fatalf("seed %d: %d of %d bytes", seed, got, n)
			}
			at += n
		}
		if !f.atBoundary() {
			t.Fatalf("seed %d: no end at the end", seed)
		}
	}
}

func TestFramesStopAtTheNextEnd(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 4))
		stream, ends := script(random)
		cut := random.IntN(len(stream) + 1)
		next := cut
		for !ends[next] {
			next++
		}
		var f frames
		f.scan(stream[:cut], false)
		if got := cut + f.scan(stream[cut:], true); got != next || !f.atBoundary() {
			t.Fatalf("seed %d: stopped at %d, want %d", seed, got, next)
		}
		if got := f.scan(stream[next:], true); got != 0 {
			t.Fatalf("seed %d: %d bytes passed after the end", seed, got)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte{0x81, 5, 'h', 'e', 'l', 'l', 'o'}, uint8(3))
	f.Add([]byte{0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1}, uint8(1))
	f.Fuzz(func(t *testing.T, stream []byte, cut uint8) {
		var whole, parts frames
		whole.scan(stream, false)
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), 1+int(cut))
			if got := parts.scan(rest[:n], false); got != n {
				t.Fatalf("%d of %d bytes", got, n)
			}
			rest = rest[n:]
		}
		if whole.filled != parts.filled || whole.remaining != parts.remaining || whole.remaining < 0 {
			t.Errorf("%+v, in pieces %+v", whole, parts)
		}
		var stopped frames
		if n := stopped.scan(stream, true); n != 0 {
			t.Errorf("%d bytes passed a boundary", n)
		}
	})
}
