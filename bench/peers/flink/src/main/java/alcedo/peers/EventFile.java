// Reads the file of events that every side of the comparison reads, without a copy and without an object a record.
package alcedo.peers;

import java.io.IOException;
import java.nio.ByteOrder;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/**
 * Little-endian records of 40 bytes: time (ms), card, amount, latitude, longitude. Up to 2 GB, which is 53 million
 * events.
 */
final class EventFile {
  static final int RECORD_BYTES = 40;

  private final MappedByteBuffer bytes;

  EventFile(String path) throws IOException {
    try (FileChannel channel = FileChannel.open(Path.of(path), StandardOpenOption.READ)) {
      bytes = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size());
      bytes.order(ByteOrder.LITTLE_ENDIAN);
    }
  }

  long size() {
    return bytes.capacity() / RECORD_BYTES;
  }

  void read(long position, Event into) {
    final int at = (int) position * RECORD_BYTES;
    into.timeMs = bytes.getLong(at);
    into.card = bytes.getLong(at + 8);
    into.amount = bytes.getDouble(at + 16);
    into.latitude = bytes.getDouble(at + 24);
    into.longitude = bytes.getDouble(at + 32);
  }
}
