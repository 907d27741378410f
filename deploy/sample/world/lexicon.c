#include "deploy/sample/world/lexicon.h"

#define N(a) (sizeof(a) / sizeof *(a))

#define FLY   (1u << CAN_FLY)
#define SWIM  (1u << CAN_SWIM)
#define CLIMB (1u << CAN_CLIMB)
#define DIG   (1u << CAN_DIG)
#define SING  (1u << CAN_SING)
#define READ  (1u << CAN_READ)
#define BIG   (1u << IS_STRONG)
#define TINY  (1u << IS_TINY)
#define NIGHT (1u << SEES_IN_THE_DARK)

const char *const world_traits[TRAITS] = {
    [CAN_FLY] = "fly",
    [CAN_SWIM] = "swim",
    [CAN_CLIMB] = "climb a tree",
    [CAN_DIG] = "dig a deep hole",
    [CAN_SING] = "sing a sweet song",
    [CAN_READ] = "read a book",
    [IS_STRONG] = "move a big stone",
    [IS_TINY] = "slip through a keyhole",
    [SEES_IN_THE_DARK] = "see in the dark",
};

const struct animal world_animals[] = {
    { "fox", "a", DIG },
    { "mouse", "a", TINY },
    { "bear", "a", BIG | CLIMB },
    { "owl", "an", FLY | READ | NIGHT },
    { "rabbit", "a", DIG },
    { "frog", "a", SWIM },
    { "otter", "an", SWIM },
    { "beaver", "a", SWIM | BIG },
    { "hedgehog", "a", NIGHT },
    { "squirrel", "a", CLIMB },
    { "duck", "a", FLY | SWIM },
    { "cat", "a", CLIMB | NIGHT },
    { "bat", "a", FLY | NIGHT },
    { "badger", "a", DIG | NIGHT },
    { "tortoise", "a", READ },
    { "robin", "a", FLY | SING },
    { "cricket", "a", TINY | SING },
    { "mole", "a", DIG },
    { "horse", "a", BIG },
    { "goat", "a", CLIMB },
    { "raven", "a", FLY | READ },
    { "lark", "a", FLY | SING },
    { "seal", "a", SWIM | SING },
    { "ant", "an", TINY },
    { "monkey", "a", CLIMB | READ },
    { "elephant", "an", BIG | READ },
    { "puppy", "a", DIG },
    { "lamb", "a", 0 },
    /* Not in the text the model is trained on: taught later. */
    { "dragon", "a", FLY | BIG },
};
const size_t n_world_animals = N(world_animals);
const size_t n_world_old_animals = N(world_animals) - 1;

const struct name world_names[] = {
    { "Pip", false },  { "Max", false },   { "Tom", false },    { "Finn", false },
    { "Otto", false }, { "Hugo", false },  { "Ben", false },    { "Leo", false },
    { "Sam", false },  { "Oscar", false }, { "Jasper", false }, { "Toby", false },
    { "Lily", true },  { "Mia", true },    { "Nora", true },    { "Ruby", true },
    { "Daisy", true }, { "Ella", true },   { "Hazel", true },   { "Ivy", true },
    { "Luna", true },  { "Rosa", true },   { "Tilly", true },   { "Wendy", true },
};
const size_t n_world_names = N(world_names);

const struct place world_places[] = {
    { "in the forest", "The trees there whispered all day long." },
    { "by the sea", "The waves there never stopped talking." },
    { "on a green hill", "The wind there smelled of apples." },
    { "near a quiet pond", "The water there was as flat as a mirror." },
    { "in an old barn", "The roof there had a hole where the moon looked in." },
    { "at the edge of a village", "The bells there rang every evening." },
    { "in a valley of flowers", "The bees there were busy from morning to night." },
    { "on a small island", "The fog there came and went like a visitor." },
    { "under a stone bridge", "The river there told a new story every day." },
    { "beside a windmill", "The air there was white with flour." },
    { "in a garden behind a red house", "The beans there grew taller than the fence." },
    { "at the foot of a blue mountain", "The snow there stayed until summer." },
};
const size_t n_world_places = N(world_places);

const struct wish world_wishes[] = {
    { "catch a falling star", "caught a falling star", CAN_FLY,
      "{He} jumped as high as {he} could, but the stars were too far away.",
      "{helper} flew up into the night and came back with a star, still warm and shining." },
    { "send a letter to the moon", "sent a letter to the moon", CAN_FLY,
      "{He} threw the letter into the wind, but the wind only brought it back.",
      "{helper} took the letter and flew until the moon was as big as a house." },
    { "hear the bell in the tall tower", "heard the bell in the tall tower", CAN_FLY,
      "{He} looked for the stairs, but they had fallen down long ago.",
      "{helper} flew to the top of the tower and swung on the bell until it rang." },
    { "find the silver ring in the lake", "found the silver ring in the lake", CAN_SWIM,
      "{He} looked into the water, but it was deep and cold.",
      "{helper} swam down, down, down, and came up with the ring." },
    { "cross the wide river", "crossed the wide river", CAN_SWIM,
      "{He} put one foot into the water, but it was much too fast.",
      "{helper} swam to the other side with a rope, and {hero} held on to it all the way." },
    { "free the red kite from the old tree", "freed the red kite from the old tree", CAN_CLIMB,
      "{He} pulled at the string, but the kite did not move.",
      "{helper} climbed from branch to branch and let the kite go." },
    { "taste the apple at the top of the tree", "tasted the apple at the top of the tree",
      CAN_CLIMB, "{He} shook the tree, but only leaves came down.",
      "{helper} climbed up and dropped the apple right into {his} lap." },
    { "find the treasure under the crooked tree", "found the treasure under the crooked tree",
      CAN_DIG, "{He} scratched at the ground, but it was as hard as a bone.",
      "{helper} dug until the earth flew in all directions, and there was a chest full of gold." },
    { "plant a hundred sunflowers", "planted a hundred sunflowers", CAN_DIG,
      "{He} made three holes, and then {he} was so tired that {he} fell asleep.",
      "{helper} dug all the other holes before breakfast." },
    { "sing the baby birds to sleep", "sang the baby birds to sleep", CAN_SING,
      "{He} tried a song, but it sounded like an old gate, and the little ones only laughed.",
      "{helper} sang softly, {hero} hummed along, and one after the other closed its eyes." },
    { "learn a song by heart", "learned a song by heart", CAN_SING,
      "{He} began again and again, but {he} always lost the tune.",
      "{helper} sang it line by line, as often as it took." },
    { "know the end of the old story", "knew the end of the old story", CAN_READ,
      "{He} opened the book, but the letters looked like little black ants.",
      "{helper} read the last page aloud, and it was a happy one." },
    { "find the way to the sea", "found the way to the sea", CAN_READ,
      "{He} walked all day, but {he} came back to the same stone.",
      "{helper} read the old map and drew the way into the sand." },
    { "open the great stone door", "opened the great stone door", IS_STRONG,
      "{He} pushed until {his} ears were red, but the door stood still.",
      "{helper} pushed only once, and behind the door was a garden full of light." },
    { "pull the biggest turnip out of the ground",
      "pulled the biggest turnip out of the ground", IS_STRONG,
      "{He} pulled and pulled, but the turnip did not care.",
      "{helper} pulled too, and out came the turnip with a pop." },
    { "look inside the locked box", "looked inside the locked box", IS_TINY,
      "{He} shook it and knocked on it, but there was no key.",
      "{helper} crept in through the keyhole and opened the lock from inside." },
    { "mend the music box", "mended the music box", IS_TINY,
      "{He} turned the key, but something was stuck deep inside.",
      "{helper} crept in between the wheels and came out with a grain of sand." },
    { "bring the lost lamp out of the cave", "brought the lost lamp out of the cave",
      SEES_IN_THE_DARK, "{He} went in, but it was so dark that {he} ran out again.",
      "{helper} walked straight into the dark and soon called out that the lamp was there." },
    { "visit the fireflies at midnight", "visited the fireflies at midnight", SEES_IN_THE_DARK,
      "{He} set out bravely, but {he} fell over every root.",
      "{helper} saw every root and every stone, and went ahead." },
};
const size_t n_world_wishes = N(world_wishes);
