// A card's features in hand-tuned Java: rings of 60 buckets with totals, a decayed mean, and a place's distance from home.
package alcedo.peers;

import java.util.Arrays;

/**
 * The columns of Alcedo's `rolling` (1 min, 5 min, 1 h), `baseline` and `geo`, as docs/features.md defines them, of the
 * state before each event.
 *
 * <p>State is one array of longs a card, doubles as their bits: one object to find, no reference for the collector to
 * follow. Totals of a window are kept by subtracting what leaves and are summed anew only when an extreme leaves. A ring
 * with one occupied bucket is its totals; the second bucket appends 64 slots to the array.
 *
 * <p>Cost: no allocation but a card's first record and its three rings. Threads: one at a time.
 */
final class CardFeatures implements java.io.Serializable {
  private static final long serialVersionUID = 1;
  static final String[] COLUMNS = columns();

  private static final int WINDOWS = 3;
  private static final long BUCKETS = 60;
  private static final int SLOTS = 64; // the bucket's slot is its number modulo 64
  private static final long HALF_LIFE_MS = 14L * 86_400_000;
  private static final long ACCEPT_MS = HALF_LIFE_MS / 8;
  private static final long MIN_HISTORY = 20;
  private static final double STEP = 1; // amounts are whole minor units
  private static final double RELATIVE_FLOOR = 1e-3;
  private static final double DEVIATES = 4;
  private static final double SLOW_WEIGHT = 0.1;
  private static final double SCORE_MAX = 1e6;
  private static final double FORGOTTEN_WEIGHT = 1e-6;
  private static final double EARTH_RADIUS_KM = 6371.0088;
  private static final long LEAST_TRAVEL_MS = 60_000;
  private static final double HOME_FLOOR_KM = 1;

  // The record: clock, shift, three rings, the decayed mean, the places; then the slots of rings that have any.
  private static final int CLOCK_MS = 0;
  private static final int SHIFT = 1;
  private static final int RINGS = 2;
  private static final int RING_LONGS = 7;
  private static final int OCCUPIED = 0; // a bit a slot
  private static final int PLACE = 1; // where the slots begin; 0: none
  private static final int TOTALS = 2;
  // Totals of a ring, and a slot.
  private static final int COUNT = 0;
  private static final int SUM = 1; // of value - shift
  private static final int SQUARES = 2; // of (value - shift)^2
  private static final int MIN = 3;
  private static final int MAX = 4;
  private static final int SLOT_LONGS = 5;

  private static final int MEAN = RINGS + WINDOWS * RING_LONGS;
  private static final int MEAN_WEIGHT = MEAN;
  private static final int MEAN_VALUE = MEAN + 1;
  private static final int MEAN_SQUARES = MEAN + 2;
  private static final int MEAN_HISTORY = MEAN + 3;
  private static final int LEVEL_COUNT = MEAN + 4; // the level that may become the new one; 0: there is none
  private static final int LEVEL_VALUE = MEAN + 5;
  private static final int LEVEL_SQUARES = MEAN + 6;
  private static final int LEVEL_SINCE_MS = MEAN + 7;

  private static final int PLACES = MEAN + 8;
  private static final int LAST_X = PLACES + 1;
  private static final int LAST_Y = PLACES + 2;
  private static final int LAST_Z = PLACES + 3;
  private static final int LAST_MS = PLACES + 4;
  private static final int HOME_X = PLACES + 5;
  private static final int HOME_Y = PLACES + 6;
  private static final int HOME_Z = PLACES + 7;
  private static final int HOME_WEIGHT = PLACES + 8;
  private static final int HOME_SQUARES = PLACES + 9;
  private static final int RECORD_LONGS = PLACES + 10;

  private static final long NO_CLOCK = Long.MIN_VALUE;

  // Columns: stat by stat, windows within.
  private static final int OUT_MEAN = 6 * WINDOWS;
  private static final int OUT_GEO = OUT_MEAN + 5;
  private static final int OUT_COLUMNS = OUT_GEO + 6;

  /** The state of a card that has not been seen. */
  static long[] unseen() {
    final long[] card = new long[RECORD_LONGS];
    card[CLOCK_MS] = NO_CLOCK;
    return card;
  }

  /** Writes the event's columns, then takes it into the state. Returns the card, in a longer array where it grew. */
  long[] update(long[] card, Event event, float[] out) {
    final long timeMs = event.timeMs;
    final long clockMs = card[CLOCK_MS] == NO_CLOCK ? timeMs : card[CLOCK_MS];
    final boolean inOrder = timeMs >= clockMs;
    final double decay = timeMs <= clockMs ? 1 : decay(timeMs - clockMs);
    card = updateRings(card, event.amount, timeMs, clockMs, out);
    updatePlaces(card, event, inOrder, timeMs - clockMs, decay, out);
    if (inOrder) {
      card[CLOCK_MS] = timeMs;
    }
    updateMean(card, event.amount, timeMs, inOrder, decay, out);
    return card;
  }

  private static long[] updateRings(long[] card, double amount, long timeMs, long clockMs, float[] out) {
    final boolean present = !Double.isNaN(amount);
    // Divisions by constants are multiplications.
    final long newestMs = Math.max(timeMs, clockMs);
    final long to0 = Math.floorDiv(newestMs, 1000L);
    final long to1 = Math.floorDiv(newestMs, 5000L);
    final long to2 = Math.floorDiv(newestMs, 60_000L);
    if (timeMs > clockMs) {
      advance(card, RINGS, Math.floorDiv(clockMs, 1000L), to0);
      advance(card, RINGS + RING_LONGS, Math.floorDiv(clockMs, 5000L), to1);
      advance(card, RINGS + 2 * RING_LONGS, Math.floorDiv(clockMs, 60_000L), to2);
    }
    // Any value near the others serves as shift; when all windows have run empty, nothing depends on the old one.
    if (present
        && (card[RINGS + OCCUPIED] | card[RINGS + RING_LONGS + OCCUPIED] | card[RINGS + 2 * RING_LONGS + OCCUPIED])
            == 0) {
      put(card, SHIFT, amount);
    }
    final double shift = get(card, SHIFT);
    for (int window = 0; window < WINDOWS; ++window) {
      write(card, RINGS + window * RING_LONGS + TOTALS, shift, out, window);
    }
    if (present) {
      final long bucket0 = Math.floorDiv(timeMs, 1000L);
      final long bucket1 = Math.floorDiv(timeMs, 5000L);
      final long bucket2 = Math.floorDiv(timeMs, 60_000L);
      if (bucket0 > to0 - BUCKETS) {
        card = add(card, RINGS, bucket0, amount, shift);
      }
      if (bucket1 > to1 - BUCKETS) {
        card = add(card, RINGS + RING_LONGS, bucket1, amount, shift);
      }
      if (bucket2 > to2 - BUCKETS) {
        card = add(card, RINGS + 2 * RING_LONGS, bucket2, amount, shift);
      }
    }
    return card;
  }

  /** Forgets the buckets that leave the window when its newest bucket moves. */
  private static void advance(long[] card, int ring, long from, long to) {
    final long occupied = card[ring + OCCUPIED];
    if (occupied == 0) {
      return;
    }
    long leaving = occupied;
    if (to - from < BUCKETS) {
      leaving &= Long.rotateLeft((1L << (to - from)) - 1, (int) (from - (BUCKETS - 1)));
      if (leaving == 0) {
        return;
      }
    }
    final long staying = occupied & ~leaving;
    card[ring + OCCUPIED] = staying;
    final int totals = ring + TOTALS;
    if (staying == 0) {
      Arrays.fill(card, totals, totals + SLOT_LONGS, 0);
      return;
    }
    final int place = (int) card[ring + PLACE];
    boolean extreme = (staying & (staying - 1)) == 0;
    for (long left = leaving; left != 0 && !extreme; left &= left - 1) {
      final int slot = place + Long.numberOfTrailingZeros(left) * SLOT_LONGS;
      card[totals + COUNT] -= card[slot + COUNT];
      put(card, totals + SUM, get(card, totals + SUM) - get(card, slot + SUM));
      put(card, totals + SQUARES, get(card, totals + SQUARES) - get(card, slot + SQUARES));
      extreme = get(card, slot + MIN) <= get(card, totals + MIN) || get(card, slot + MAX) >= get(card, totals + MAX);
    }
    if (extreme) {
      sumAgain(card, totals, place, staying);
    }
  }

  private static void sumAgain(long[] card, int totals, int place, long staying) {
    long count = 0;
    double sum = 0;
    double squares = 0;
    double min = Double.POSITIVE_INFINITY;
    double max = Double.NEGATIVE_INFINITY;
    for (long left = staying; left != 0; left &= left - 1) {
      final int slot = place + Long.numberOfTrailingZeros(left) * SLOT_LONGS;
      count += card[slot + COUNT];
      sum += get(card, slot + SUM);
      squares += get(card, slot + SQUARES);
      min = Math.min(min, get(card, slot + MIN));
      max = Math.max(max, get(card, slot + MAX));
    }
    card[totals + COUNT] = count;
    put(card, totals + SUM, sum);
    put(card, totals + SQUARES, squares);
    put(card, totals + MIN, min);
    put(card, totals + MAX, max);
  }

  private static long[] add(long[] card, int ring, long bucket, double amount, double shift) {
    final long bit = 1L << bucket;
    final long occupied = card[ring + OCCUPIED];
    final int totals = ring + TOTALS;
    int place = (int) card[ring + PLACE];
    if (place == 0 && (occupied & ~bit) != 0) {
      place = card.length;
      card = Arrays.copyOf(card, place + SLOTS * SLOT_LONGS);
      card[ring + PLACE] = place;
      System.arraycopy(card, totals, card, place + Long.numberOfTrailingZeros(occupied) * SLOT_LONGS, SLOT_LONGS);
    }
    if (place != 0) {
      addTo(card, place + Long.numberOfTrailingZeros(bit) * SLOT_LONGS, amount, shift, (occupied & bit) == 0);
    }
    addTo(card, totals, amount, shift, occupied == 0);
    card[ring + OCCUPIED] = occupied | bit;
    return card;
  }

  private static void addTo(long[] card, int at, double amount, double shift, boolean empty) {
    final double distance = amount - shift;
    if (empty) {
      card[at + COUNT] = 1;
      put(card, at + SUM, distance);
      put(card, at + SQUARES, distance * distance);
      put(card, at + MIN, amount);
      put(card, at + MAX, amount);
      return;
    }
    ++card[at + COUNT];
    put(card, at + SUM, get(card, at + SUM) + distance);
    put(card, at + SQUARES, get(card, at + SQUARES) + distance * distance);
    if (amount < get(card, at + MIN)) {
      put(card, at + MIN, amount);
    }
    if (amount > get(card, at + MAX)) {
      put(card, at + MAX, amount);
    }
  }

  private static void write(long[] card, int totals, double shift, float[] out, int window) {
    final long count = card[totals + COUNT];
    out[window] = count;
    if (count == 0) {
      out[window + WINDOWS] = 0;
      out[window + 2 * WINDOWS] = Float.NaN;
      out[window + 3 * WINDOWS] = Float.NaN;
      out[window + 4 * WINDOWS] = Float.NaN;
      out[window + 5 * WINDOWS] = Float.NaN;
      return;
    }
    final double sum = get(card, totals + SUM);
    final double mean = sum / count;
    out[window + WINDOWS] = (float) (sum + count * shift);
    out[window + 2 * WINDOWS] = (float) (shift + mean);
    out[window + 3 * WINDOWS] =
        (float) Math.sqrt(Math.max(0, get(card, totals + SQUARES) / count - mean * mean));
    out[window + 4 * WINDOWS] = (float) get(card, totals + MIN);
    out[window + 5 * WINDOWS] = (float) get(card, totals + MAX);
  }

  private static void updateMean(
      long[] card, double amount, long timeMs, boolean inOrder, double decay, float[] out) {
    double weight = get(card, MEAN_WEIGHT);
    double squares = get(card, MEAN_SQUARES);
    if (inOrder && weight > 0) {
      weight *= decay;
      squares *= decay;
      if (weight < FORGOTTEN_WEIGHT) {
        Arrays.fill(card, MEAN, PLACES, 0);
        weight = 0;
        squares = 0;
      }
      put(card, MEAN_WEIGHT, weight);
      put(card, MEAN_SQUARES, squares);
    }
    final double mean = get(card, MEAN_VALUE);
    final long history = card[MEAN_HISTORY];
    double spread = Double.NaN;
    double z = Double.NaN;
    if (weight > 0) {
      final double share = RELATIVE_FLOOR * mean;
      final double floor = share * share + STEP * STEP / 12 + 1e-24;
      spread = Math.sqrt(squares / weight * (1 + 1 / weight) + floor);
      if (history >= MIN_HISTORY) {
        z = Math.max(-SCORE_MAX, Math.min(SCORE_MAX, (amount - mean) / spread));
      }
    }
    out[OUT_MEAN] = (float) amount;
    out[OUT_MEAN + 1] = weight > 0 ? (float) mean : Float.NaN;
    out[OUT_MEAN + 2] = (float) spread;
    out[OUT_MEAN + 3] = (float) z;
    out[OUT_MEAN + 4] = history;
    if (inOrder && !Double.isNaN(amount)) {
      learnMean(card, amount, timeMs, Math.abs(z) > DEVIATES, weight, squares);
    }
  }

  private static void learnMean(
      long[] card, double amount, long timeMs, boolean deviates, double weight, double squares) {
    if (deviates) {
      if (card[LEVEL_COUNT] == 0) {
        card[LEVEL_SINCE_MS] = timeMs;
        put(card, LEVEL_VALUE, 0);
        put(card, LEVEL_SQUARES, 0);
      }
      final long count = ++card[LEVEL_COUNT];
      final double distance = amount - get(card, LEVEL_VALUE);
      final double level = get(card, LEVEL_VALUE) + distance / count;
      put(card, LEVEL_VALUE, level);
      put(card, LEVEL_SQUARES, get(card, LEVEL_SQUARES) + distance * (amount - level));
      if (count > 1 && timeMs - card[LEVEL_SINCE_MS] >= ACCEPT_MS) {
        put(card, MEAN_SQUARES, get(card, LEVEL_SQUARES) + squares / weight);
        put(card, MEAN_WEIGHT, count);
        put(card, MEAN_VALUE, level);
        card[MEAN_HISTORY] = Math.max(MIN_HISTORY, count);
        card[LEVEL_COUNT] = 0;
        return;
      }
    } else {
      card[LEVEL_COUNT] = 0;
    }
    final double w = deviates ? SLOW_WEIGHT : 1;
    final double after = weight + w;
    final double distance = amount - get(card, MEAN_VALUE);
    final double share = w / after;
    put(card, MEAN_WEIGHT, after);
    put(card, MEAN_VALUE, get(card, MEAN_VALUE) + distance * share);
    put(card, MEAN_SQUARES, squares + distance * distance * (weight * share));
    ++card[MEAN_HISTORY];
  }

  private static void updatePlaces(
      long[] card, Event event, boolean inOrder, long sinceClockMs, double clockDecay, float[] out) {
    final boolean known = Math.abs(event.latitude) <= 90 && Math.abs(event.longitude) <= 180;
    final long places = card[PLACES];
    final boolean newest = places == 0 || event.timeMs >= card[LAST_MS];
    out[OUT_GEO] = Float.NaN;
    out[OUT_GEO + 1] = Float.NaN;
    out[OUT_GEO + 2] = Float.NaN;
    out[OUT_GEO + 3] = Float.NaN;
    out[OUT_GEO + 4] = Float.NaN;
    out[OUT_GEO + 5] = places;
    final double latitude = Math.toRadians(event.latitude);
    final double longitude = Math.toRadians(event.longitude);
    final double around = Math.cos(latitude);
    final double x = around * Math.cos(longitude);
    final double y = around * Math.sin(longitude);
    final double z = Math.sin(latitude);
    double homeKm = 0;
    double spreadKm = 0;
    if (places > 0) {
      spreadKm = Math.sqrt(get(card, HOME_SQUARES) / get(card, HOME_WEIGHT));
      out[OUT_GEO + 3] = (float) spreadKm;
      if (known) {
        homeKm = homeKm(card, x, y, z);
        out[OUT_GEO + 2] = (float) homeKm;
        if (places >= MIN_HISTORY) {
          out[OUT_GEO + 4] = (float) Math.min(SCORE_MAX, homeKm / floored(spreadKm));
        }
      }
    }
    if (!known || !inOrder || !newest) {
      return;
    }
    double weight = get(card, HOME_WEIGHT);
    double squares = get(card, HOME_SQUARES);
    if (places > 0) {
      final long elapsedMs = event.timeMs - card[LAST_MS];
      final double travelledKm = distanceKm(x, y, z, get(card, LAST_X), get(card, LAST_Y), get(card, LAST_Z));
      out[OUT_GEO + 1] = (float) travelledKm;
      out[OUT_GEO] = (float) (travelledKm * 3_600_000.0 / Math.max(elapsedMs, LEAST_TRAVEL_MS));
      final double decay = elapsedMs == sinceClockMs ? clockDecay : decay(elapsedMs);
      weight = Math.max(weight * decay, FORGOTTEN_WEIGHT);
      squares *= decay;
    }
    final boolean deviates = places >= MIN_HISTORY && homeKm > DEVIATES * floored(spreadKm);
    final double w = deviates ? SLOW_WEIGHT : 1;
    final double share = w / (weight + w);
    put(card, HOME_WEIGHT, weight + w);
    put(card, HOME_X, get(card, HOME_X) + (x - get(card, HOME_X)) * share);
    put(card, HOME_Y, get(card, HOME_Y) + (y - get(card, HOME_Y)) * share);
    put(card, HOME_Z, get(card, HOME_Z) + (z - get(card, HOME_Z)) * share);
    put(card, HOME_SQUARES, squares + homeKm * homeKm * (weight * share));
    put(card, LAST_X, (float) x);
    put(card, LAST_Y, (float) y);
    put(card, LAST_Z, (float) z);
    card[LAST_MS] = event.timeMs;
    ++card[PLACES];
  }

  private static double homeKm(long[] card, double x, double y, double z) {
    final double homeX = get(card, HOME_X);
    final double homeY = get(card, HOME_Y);
    final double homeZ = get(card, HOME_Z);
    final double length = Math.sqrt(homeX * homeX + homeY * homeY + homeZ * homeZ);
    if (length < 1e-9) {
      return distanceKm(x, y, z, get(card, LAST_X), get(card, LAST_Y), get(card, LAST_Z));
    }
    return distanceKm(x, y, z, homeX / length, homeY / length, homeZ / length);
  }

  private static double distanceKm(double x, double y, double z, double toX, double toY, double toZ) {
    final double dx = x - toX;
    final double dy = y - toY;
    final double dz = z - toZ;
    return 2 * EARTH_RADIUS_KM * arcSine(Math.min(1, Math.sqrt(dx * dx + dy * dy + dz * dz) / 2));
  }

  /** For 0 <= x <= 1. Math.asin() leaves compiled code, and beyond 0.5 takes a root bit by bit. Source: fdlibm, e_asin.c. */
  private static double arcSine(double x) {
    if (x < 0.5) {
      return x + x * arcSineRest(x * x);
    }
    final double half = (1 - x) / 2;
    final double root = Math.sqrt(half);
    return Math.PI / 2 - 2 * (root + root * arcSineRest(half));
  }

  private static double arcSineRest(double t) {
    final double p =
        t * (1.66666666666666657415e-01
            + t * (-3.25565818622400915405e-01
            + t * (2.01212532134862925881e-01
            + t * (-4.00555345006794114027e-02
            + t * (7.91534994289814532176e-04 + t * 3.47933107596021167570e-05)))));
    final double q =
        1 + t * (-2.40339491173441421878e+00
            + t * (2.02094576023350569471e+00
            + t * (-6.88283971605453293030e-01 + t * 7.70381505559019352791e-02)));
    return p / q;
  }

  private static double floored(double spreadKm) {
    return Math.sqrt(spreadKm * spreadKm + HOME_FLOOR_KM * HOME_FLOOR_KM);
  }

  // exp() is an instruction sequence of the compiler's own, pow() a slower one.
  private static double decay(long elapsedMs) {
    return elapsedMs == 0 ? 1 : Math.exp(-elapsedMs * (0.6931471805599453 / HALF_LIFE_MS));
  }

  private static double get(long[] card, int at) {
    return Double.longBitsToDouble(card[at]);
  }

  private static void put(long[] card, int at, double value) {
    card[at] = Double.doubleToRawLongBits(value);
  }

  private static String[] columns() {
    final String[] names = new String[OUT_COLUMNS];
    final String[] stats = {"count", "sum", "mean", "std", "min", "max"};
    final String[] windows = {"1m", "5m", "1h"};
    for (int column = 0; column < OUT_MEAN; ++column) {
      names[column] = "spend." + stats[column / WINDOWS] + "_" + windows[column % WINDOWS];
    }
    final String[] mean = {"seen", "expected", "spread", "z", "history"};
    for (int column = OUT_MEAN; column < OUT_GEO; ++column) {
      names[column] = "habit." + mean[column - OUT_MEAN];
    }
    final String[] geo = {"speed_kmh", "distance_km", "home_km", "home_spread_km", "home_z", "places"};
    for (int column = OUT_GEO; column < OUT_COLUMNS; ++column) {
      names[column] = "travel." + geo[column - OUT_GEO];
    }
    return names;
  }
}
