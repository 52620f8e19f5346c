// Stranger checks logs with the Go project's own packages for transparency logs (golang.org/x/mod/sumdb), which know nothing
// of Foundry. It reads the folder of a log, one a line, and answers each with a line: "ok <size>", or what is wrong.
//
//	stranger VERIFIER-KEY < folders
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height  = 8 // hashes of a tile: 2^8
	width   = 1 << height
	entries = -1 // the level that sumdb gives to data tiles
)

func main() {
	verifier, err := note.NewVerifier(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	// Trees seen before, by folder: a log must continue them.
	seen := map[string]tlog.Tree{}
	for folders := bufio.NewScanner(os.Stdin); folders.Scan(); {
		folder := folders.Text()
		tree, err := verify(folder, verifier, seen[folder])
		if err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		seen[folder] = tree
		fmt.Println("ok", tree.N)
	}
}

func verify(folder string, verifier note.Verifier, before tlog.Tree) (tlog.Tree, error) {
	// What does the checkpoint say, and did the log's key sign it?
	signed, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	origin, rest, _ := strings.Cut(opened.Text, "\n")
	if origin != verifier.Name() {
		return tlog.Tree{}, fmt.Errorf("checkpoint of another log: %q", origin)
	}
	// sumdb's trees all have one origin, so it is put in for ours.
	tree, err := tlog.ParseTree([]byte("go.sum database tree\n" + rest))
	if err != nil {
		return tlog.Tree{}, err
	}
	if tree.N == 0 {
		return tree, nil
	}
	// Do the entries have the root that was signed?
	var stored hashes
	for start := int64(0); start < tree.N; start += width {
		bundle := tileAt(entries, start/width, tree.N)
		data, err := os.ReadFile(pathOf(folder, bundle))
		if err != nil {
			return tlog.Tree{}, err
		}
		for n := start; n < start+int64(bundle.W); n++ {
			if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
				return tlog.Tree{}, fmt.Errorf("entry %d is cut off", n+1)
			}
			end := 2 + int(binary.BigEndian.Uint16(data))
			added, err := tlog.StoredHashes(n, data[2:end], stored)
			if err != nil {
				return tlog.Tree{}, err
			}
			stored = append(stored, added...)
			data = data[end:]
		}
		if len(data) > 0 {
			return tlog.Tree{}, fmt.Errorf("%s goes on behind its last entry", bundle.Path())
		}
	}
	root, err := tlog.TreeHash(tree.N, stored)
	if err != nil {
		return tlog.Tree{}, err
	}
	if root != tree.Hash {
		return tlog.Tree{}, fmt.Errorf("the entries do not have the signed root")
	}

	// Is every tile that a log of this size has what the entries hash to? (TileHashReader would say so too, but the one of
	// this version leaves tiles out where several subtrees of the right edge share one.)
	for level := 0; tree.N>>(height*level) > 0; level++ {
		count := tree.N >> (height * level)
		for n := int64(0); n*width < count; n++ {
			tile := tileAt(level, n, count)
			right, err := tlog.ReadTileData(tile, stored)
			if err != nil {
				return tlog.Tree{}, err
			}
			there, err := os.ReadFile(pathOf(folder, tile))
			if err != nil {
				return tlog.Tree{}, err
			}
			if !bytes.Equal(right, there) {
				return tlog.Tree{}, fmt.Errorf("%s is not what the entries hash to", tile.Path())
			}
		}
	}

	// Do the tiles prove the last entry, and that the log continues what was seen before?
	reader := tlog.TileHashReader(tree, tiles(folder))
	last, err := tlog.ProveRecord(tree.N, tree.N-1, reader)
	if err == nil {
		err = tlog.CheckRecord(last, tree.N, tree.Hash, tree.N-1, stored[tlog.StoredHashIndex(0, tree.N-1)])
	}
	if err != nil || before.N == 0 {
		return tree, err
	}
	proof, err := tlog.ProveTree(tree.N, before.N, reader)
	if err == nil {
		err = tlog.CheckTree(proof, tree.N, tree.Hash, before.N, before.Hash)
	}
	return tree, err
}

// hashes are all of a tree's, in sumdb's order.
type hashes []tlog.Hash

func (stored hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	read := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		read[i] = stored[index]
	}
	return read, nil
}

// tileAt is the n-th tile of a level that has so many hashes.
func tileAt(level int, n, count int64) tlog.Tile {
	tile := tlog.Tile{H: height, L: level, N: n, W: width}
	if left := count - n*width; left < width {
		tile.W = int(left)
	}
	return tile
}

// tiles reads a log's tiles from its folder.
type tiles string

func (folder tiles) Height() int                     { return height }
func (folder tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (folder tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(wanted))
	for i, tile := range wanted {
		var err error
		if data[i], err = os.ReadFile(pathOf(string(folder), tile)); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// pathOf is where c2sp.org/tlog-tiles has a tile: as sumdb does, without the height, and "entries" for "data".
func pathOf(folder string, tile tlog.Tile) string {
	path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
	return filepath.Join(folder, strings.Replace(path, "tile/data/", "tile/entries/", 1))
}
